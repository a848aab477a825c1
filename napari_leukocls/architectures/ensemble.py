"""Several networks of one kind that decide together: the mean of their logits."""

from __future__ import annotations

from typing import Any

from napari_leukocls.architectures.entry import INCEPTION, InputRule
from napari_leukocls.architectures.mobilenet import MOBILENET, STAGES, mobilenet_v2
from napari_leukocls.architectures.registry import register

_RULE = InputRule(side=128, smallest=32)


def _stages(net: Any) -> tuple[tuple[str, ...], ...]:
    """The joint layer, then each stage of all members at once, from the last to the stem."""
    from napari_leukocls.architectures._mobilenet_v2 import MobileNetV2

    if isinstance(net.members[0], MobileNetV2):
        parts = STAGES
    else:
        from napari_leukocls.architectures.timm_networks import timm_stages

        parts = timm_stages(net.members[0])
    return (
        ("classifier",),
        *(tuple(f"members.{i}.{name}" for i in range(len(net.members)) for name in part) for part in parts),
    )


@register(
    "ensemble",
    summary="Networks of one kind whose logits are averaged; slower and more accurate than each",
    reference="Lakshminarayanan, Pritzel, Blundell: Deep ensembles. NeurIPS 2017.",
    input=_RULE,
    mean=INCEPTION,
    std=INCEPTION,
    cam_target="joined",
    stages=_stages,
    arguments={"member": "mobilenetv2_100", "count": 3, "member_arguments": {"pad_type": "same"}},
    note="Each member is a timm network that ends in one linear layer; these layers are joined into one.",
)
def ensemble(num_classes: int, member: str, count: int, member_arguments: dict[str, Any]) -> Any:
    """Build an ensemble of networks of one kind.

    Parameters
    ----------
    num_classes : int
    member : str
        Name of a timm network.
    count : int
        Number of members.
    member_arguments : dict
        Arguments of each member.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures._ensemble import EnsembleNet

    if member == MOBILENET:
        bodies = [mobilenet_v2(0, **member_arguments) for _ in range(count)]
    else:
        from napari_leukocls.architectures.timm_networks import timm_network

        bodies = [timm_network(member, 0, **member_arguments) for _ in range(count)]
    return EnsembleNet(_RULE, num_classes, bodies)
