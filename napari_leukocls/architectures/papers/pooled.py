"""Single backbones: EfficientNet-B0, ConvNeXt-Tiny, EfficientNetV2-B3 with channel attention, ResNets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import INCEPTION, InputRule
from napari_leukocls.architectures.registry import register

if TYPE_CHECKING:
    from torch import nn

_S1 = "EfficientNet-B0 and ConvNeXt-Tiny compared on five kinds of blood cells; 224 px, dropout 0.4"

_S3 = (
    "Enhanced Leukemic Cell Classification Using Attention-Based CNN and Data Augmentation, arXiv:2601.01026"
)

_S5 = "Jha et al.: Cross-Attentive Dual-Branch CNN for leukaemia blood cells; single-branch comparison"

_LICENCE = "BSD-3-Clause; backbone and its ImageNet weights: timm, Apache-2.0"

_SIDE = InputRule(side=224, smallest=32)


@register(
    paper="S1",
    summary="EfficientNet-B0 with two hidden layers: small and fast",
    reference=_S1,
    licence=_LICENCE,
    input=_SIDE,
    cam_target="backbone.bn2",
    stages=(
        ("classifier", "hidden"),
        ("backbone.conv_head", "backbone.bn2", "backbone.blocks.6", "backbone.blocks.5"),
        ("backbone.blocks.4", "backbone.blocks.3"),
        ("backbone.blocks.2", "backbone.blocks.1"),
        ("backbone.blocks.0", "backbone.conv_stem", "backbone.bn1"),
    ),
    pretrained={"backbone.": "efficientnet_b0.ra_in1k"},
    paper_parameters=4_800_000,
    note=(
        "The paper states 4.8 M and 18.30 MB but not the head: hidden layers of 512 and 256 give both "
        "(4.796 M, 18.30 MiB)."
    ),
)
def s1_efficientnet_b0(
    num_classes: int, dropout: float = 0.4, hidden: Sequence[int] = (512, 256)
) -> nn.Module:
    """Build EfficientNet-B0 with hidden layers.

    Parameters
    ----------
    num_classes : int
    dropout : float
        Before each hidden layer and the last layer.
    hidden : sequence of int
        Widths of the hidden layers.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._pooled import HiddenHeadNet

    guard = SizeGuard("s1_efficientnet_b0", _SIDE)
    return HiddenHeadNet(guard, num_classes, "efficientnet_b0", hidden, dropout)


@register(
    paper="S1",
    summary="ConvNeXt-Tiny with a hidden layer: the most accurate of its comparison",
    reference=_S1,
    licence=_LICENCE,
    input=_SIDE,
    cam_target="backbone.stages.3",
    stages=(
        ("classifier", "hidden", "backbone.head"),
        ("backbone.stages.3",),
        ("backbone.stages.2",),
        ("backbone.stages.1",),
        ("backbone.stages.0", "backbone.stem"),
    ),
    pretrained={"backbone.": "convnext_tiny.fb_in1k"},
    paper_parameters=28_200_000,
    note="A hidden layer of 512 gives the paper's 28.2 M and 107.64 MiB to the last digit.",
)
def s1_convnext_tiny(num_classes: int, dropout: float = 0.4, hidden: Sequence[int] = (512,)) -> nn.Module:
    """Build ConvNeXt-Tiny with hidden layers.

    Parameters
    ----------
    num_classes : int
    dropout : float
        Before each hidden layer and the last layer.
    hidden : sequence of int
        Widths of the hidden layers.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._pooled import HiddenHeadNet

    guard = SizeGuard("s1_convnext_tiny", _SIDE)
    return HiddenHeadNet(guard, num_classes, "convnext_tiny", hidden, dropout)


_S3_FACTS: dict[str, Any] = {
    "paper": "S3",
    "reference": _S3,
    "licence": _LICENCE,
    "input": _SIDE,
    "mean": INCEPTION,
    "std": INCEPTION,
    "stages": (
        ("classifier", "attention"),
        ("backbone.conv_head", "backbone.bn2", "backbone.blocks.5"),
        ("backbone.blocks.4", "backbone.blocks.3"),
        ("backbone.blocks.2", "backbone.blocks.1"),
        ("backbone.blocks.0", "backbone.conv_stem", "backbone.bn1"),
    ),
    "pretrained": {"backbone.": "tf_efficientnetv2_b3.in21k_ft_in1k"},
}


@register(
    "efficientnetv2_b3_no_se",
    summary="EfficientNetV2-B3 without squeeze and excitation on its last map: the ablation",
    cam_target="backbone.bn2",
    arguments={"reduction": 0},
    **_S3_FACTS,
)
@register(
    summary="EfficientNetV2-B3 with squeeze and excitation on its last map",
    cam_target="attention",
    note=(
        "The paper states no count, only 89 % fewer parameters than VGG16 (138.4 M, so about 15.2 M); this "
        "network has 13.1 M, 91 % fewer."
    ),
    **_S3_FACTS,
)
def efficientnetv2_b3_se(num_classes: int, dropout: float = 0.3, reduction: int = 16) -> nn.Module:
    """Build EfficientNetV2-B3 with squeeze and excitation.

    Parameters
    ----------
    num_classes : int
    dropout : float
        Before the last layer.
    reduction : int
        Of the squeeze and excitation; 0 leaves it out.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._pooled import SqueezeExciteNet

    guard = SizeGuard("efficientnetv2_b3_se", _SIDE)
    return SqueezeExciteNet(guard, num_classes, "tf_efficientnetv2_b3", reduction, dropout)


_RESNET_STAGES = (("fc",), ("layer4",), ("layer3",), ("layer2",), ("layer1", "conv1", "bn1"))


@register(
    "resnet18",
    paper="S5",
    summary="timm's ResNet-18: one branch of CADB-CNN alone",
    reference=_S5,
    licence=_LICENCE,
    input=_SIDE,
    cam_target="layer4",
    stages=_RESNET_STAGES,
    arguments={"timm_name": "resnet18"},
    pretrained={"": "resnet18.a1_in1k"},
)
@register(
    "resnet34",
    paper="S5",
    summary="timm's ResNet-34: one branch of CADB-CNN alone",
    reference=_S5,
    licence=_LICENCE,
    input=_SIDE,
    cam_target="layer4",
    stages=_RESNET_STAGES,
    arguments={"timm_name": "resnet34"},
    pretrained={"": "resnet34.a1_in1k"},
)
def _branch_alone(num_classes: int, timm_name: str, **arguments: object) -> nn.Module:
    from napari_leukocls.architectures.timm_networks import build_timm

    return build_timm(num_classes, timm_name=timm_name, rule=_SIDE, **arguments)
