"""ShuffleNetV2 of torchvision, which timm does not have: a network that QLViT is compared with."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from napari_leukocls.architectures.entry import InputRule
from napari_leukocls.architectures.registry import register

if TYPE_CHECKING:
    from torch import nn

_SIDE = InputRule(side=224, smallest=32)


@register(
    paper="S4",
    summary="torchvision's ShuffleNetV2 x1.0: small, a baseline of QLViT",
    reference="Ma et al. (2018). ShuffleNet V2: practical guidelines for efficient CNN architecture design. ECCV.",
    licence="BSD-3-Clause; code: torchvision, BSD-3-Clause",
    input=_SIDE,
    cam_target="backbone.conv5",
    stages=(
        ("classifier",),
        ("backbone.conv5", "backbone.stage4"),
        ("backbone.stage3",),
        ("backbone.stage2", "backbone.conv1"),
    ),
    pretrained={"backbone.": ""},
    note="torchvision keeps its ImageNet weights in a torch file: give it by --weights FILE.",
)
def shufflenet_v2_x1_0(num_classes: int) -> nn.Module:
    """Build ShuffleNetV2 with random weights.

    Parameters
    ----------
    num_classes : int

    Returns
    -------
    torch.nn.Module
    """
    from torch import nn
    from torchvision.models import shufflenet_v2_x1_0 as build

    from napari_leukocls.architectures.base import HeadedNet, SizeGuard

    whole: nn.Module = build(weights=None)
    parts = ("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5")
    net = HeadedNet(SizeGuard("shufflenet_v2_x1_0", _SIDE), 1024, num_classes)
    net.backbone = nn.Sequential(OrderedDict((name, whole.get_submodule(name)) for name in parts))
    return net
