"""MobileNetV2, the network of the bundled classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import InputRule
from napari_leukocls.architectures.registry import register

if TYPE_CHECKING:
    from torch import nn

MOBILENET = "mobilenetv2_100"

_RULE = InputRule(side=224, smallest=32)

#: For progressive unfreezing, from the head to the stem.
STAGES = (
    ("classifier",),
    ("blocks.6", "conv_head", "bn2"),
    *((f"blocks.{stage}",) for stage in range(5, -1, -1)),
    ("conv_stem", "bn1"),
)


def mobilenet_v2(num_classes: int, **arguments: Any) -> nn.Module:
    """Build MobileNetV2 of width 1 with random weights; it does not check the size of images.

    Parameters
    ----------
    num_classes : int
        0 leaves out the last layer.
    **arguments
        As timm's ``mobilenetv2_100`` takes them. With others than ``pad_type`` ("" or "same") and ``drop_rate``,
        timm builds the network.

    Returns
    -------
    torch.nn.Module
        Its parameters have timm's names.
    """
    padding = arguments.get("pad_type", "")
    if set(arguments) <= {"pad_type", "drop_rate"} and padding in ("", "same"):
        from napari_leukocls.architectures._inverted_residuals import MobileNetV2

        return MobileNetV2(num_classes, padding == "same", arguments.get("drop_rate", 0.0))

    from napari_leukocls.architectures.timm_networks import timm_network

    return timm_network(MOBILENET, num_classes, **arguments)


@register(
    MOBILENET,
    summary="MobileNetV2, small and fast: the network of the bundled classifiers",
    reference="Sandler, Howard, Zhu, Zhmoginov, Chen: MobileNetV2. CVPR 2018.",
    licence="BSD-3-Clause (code), Apache-2.0 (weights)",
    input=_RULE,
    cam_target="blocks.6",
    stages=STAGES,
    pretrained={"": MOBILENET},
    note="Parameters have timm's names, so that timm's weights fit.",
)
def guarded_mobilenet_v2(num_classes: int, **arguments: Any) -> nn.Module:
    """Build MobileNetV2; it refuses images whose size it cannot take.

    Parameters
    ----------
    num_classes : int
    **arguments
        Of the network.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures.base import SizeGuard

    net = mobilenet_v2(num_classes, **arguments)
    net.register_forward_pre_hook(SizeGuard(MOBILENET, _RULE))
    return net
