"""A small network for the shape of red cells: many cells a field, so that each must cost little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import INCEPTION, InputRule
from napari_leukocls.architectures.registry import register

if TYPE_CHECKING:
    from torch import nn

RED_CELL_NET = "red_cell_net"
_RULE = InputRule(side=56, smallest=32)


@register(
    RED_CELL_NET,
    summary="Seven convolutions for the shapes of red cells: hundreds of crops in a fraction of a second",
    reference="This project: scripts/train_red_cells.py.",
    input=_RULE,
    mean=INCEPTION,
    std=INCEPTION,
    cam_target="stages.3",
    stages=(("classifier",), ("stages.3",), ("stages.2",), ("stages.1",), ("stages.0",)),
)
def red_cell_net(num_classes: int, **arguments: Any) -> nn.Module:
    """Build the network with random weights.

    Parameters
    ----------
    num_classes : int
    **arguments
        ``widths``, channels of the four stages, and ``drop_rate``.

    Returns
    -------
    torch.nn.Module
        It refuses images whose size it cannot take.
    """
    from napari_leukocls.architectures._red_cell_net import RedCellNet
    from napari_leukocls.architectures.base import SizeGuard

    return RedCellNet(SizeGuard(RED_CELL_NET, _RULE), num_classes, **arguments)
