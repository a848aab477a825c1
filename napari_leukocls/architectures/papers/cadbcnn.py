"""CADB-CNN: ResNet-18 and ResNet-34 with cross-attention in both directions, and the same without it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import InputRule
from napari_leukocls.architectures.registry import register

if TYPE_CHECKING:
    from torch import nn

_SIDE = InputRule(side=224, smallest=32)

_FACTS: dict[str, Any] = {
    "paper": "S5",
    "reference": "Jha et al.: Cross-Attentive Dual-Branch CNN for leukaemia blood cells of four stages",
    "licence": "BSD-3-Clause; backbones and their ImageNet weights: timm, Apache-2.0",
    "input": _SIDE,
    "cam_target": "last_map",
    "stages": (
        ("classifier", "small_asks", "large_asks", "small_norm", "large_norm"),
        ("resnet18.layer4", "resnet34.layer4"),
        ("resnet18.layer3", "resnet34.layer3"),
        ("resnet18.layer2", "resnet34.layer2"),
        ("resnet18", "resnet34"),
    ),
    "pretrained": {"resnet18.": "resnet18.a1_in1k", "resnet34.": "resnet34.a1_in1k"},
}


@register(summary="ResNet-18 and ResNet-34 that attend to each other by cross-attention", **_FACTS)
def cadbcnn(
    num_classes: int, dropout: float = 0.5, heads: int = 8, cross_attention: bool = True
) -> nn.Module:
    """Build the two branches with cross-attention.

    Parameters
    ----------
    num_classes : int
    dropout : float
        Before the last layer.
    heads : int
        Attention heads.
    cross_attention : bool

    Returns
    -------
    torch.nn.Module

    References
    ----------
    Jha et al.: Cross-Attentive Dual-Branch CNN for leukaemia blood cells of four stages.
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._cadbcnn import DualBranchNet

    return DualBranchNet(SizeGuard("cadbcnn", _SIDE), num_classes, dropout, cross_attention, heads)


@register(summary="ResNet-18 and ResNet-34 joined without attention: CADB-CNN's ablation", **_FACTS)
def cadbcnn_dual(num_classes: int, dropout: float = 0.5) -> nn.Module:
    """Build the two branches without attention.

    Parameters
    ----------
    num_classes : int
    dropout : float
        Before the last layer.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._cadbcnn import DualBranchNet

    return DualBranchNet(SizeGuard("cadbcnn_dual", _SIDE), num_classes, dropout, False, heads=1)
