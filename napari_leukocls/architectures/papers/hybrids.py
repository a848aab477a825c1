"""Hybrids of a CNN and a transformer, as the paper's text and as its table describe them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import INCEPTION, InputRule
from napari_leukocls.architectures.registry import register
from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

_FACTS: dict[str, Any] = {
    "paper": "S2",
    "reference": (
        "Alshehri et al.: A Hybrid CNN-Transformer Framework for Normal Blood Cell Classification: Towards "
        "Automated Hematological Analysis, 2025"
    ),
    "licence": "BSD-3-Clause; backbone and its ImageNet weights: timm, Apache-2.0",
    "paper_variant": "table",
    "variants": {"text": {"variant": "text"}, "table": {"variant": "table"}},
}

_OWN = ("classifier", "norm", "blocks", "position", "embed")


def _rule(backbone: str) -> InputRule:
    return InputRule(side=224, smallest=80 if backbone == "inceptionv3" else 32)


def hybrid(
    num_classes: int,
    backbone: str,
    variant: str = "text",
    heads: Sequence[int] = (8, 8),
    fusion: bool | None = None,
    dropout: float = 0.2,
    head_dropout: float = 0.5,
) -> nn.Module:
    """Build a hybrid.

    Parameters
    ----------
    num_classes : int
    backbone : {"customcnn", "resnet50", "efficientnetb3", "inceptionv3"}
    variant : {"text", "table"}
        ``text`` has tokens of width 256 with learned positions; ``table`` gives the parameter counts of the
        paper's table.
    heads : sequence of int
        Attention heads of each transformer block, at most 8; a pruned network has fewer blocks or heads.
    fusion : bool, optional
        Whether the last layer gets the pooled map as well; by default in ``text`` only, since the counts of the
        table exclude it.
    dropout, head_dropout : float
        In the transformer, and before the last layer.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ModelError
        If the variant does not exist.
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._hybrid import TableHybrid, TextHybrid

    kinds: dict[str, type[TextHybrid] | type[TableHybrid]] = {"text": TextHybrid, "table": TableHybrid}
    if variant not in kinds:
        raise ModelError(f"{backbone}_vit has no variant {variant!r}: choose text or table.")
    guard = SizeGuard(f"{backbone}_vit", _rule(backbone))
    fused = variant == "text" if fusion is None else fusion
    return kinds[variant](guard, num_classes, backbone, heads, fused, dropout, head_dropout)


#: Parts of each backbone that the paper freezes: its first 100, 300 and 200 Keras layers. With all running
#: statistics, which Keras counts as well, these are the non-trainable parameters of the paper's table.
FROZEN: dict[str, tuple[str, ...]] = {
    "customcnn": (),
    "resnet50": (
        *("conv1", "bn1", "layer1", "layer2", "layer3.0", "layer3.1.conv1", "layer3.1.bn1"),
        *("layer3.1.conv2", "layer3.1.bn2", "layer3.1.conv3"),
    ),
    "efficientnetb3": (
        *("conv_stem", "bn1", "blocks.0", "blocks.1", "blocks.2", "blocks.3", "blocks.4"),
        *("blocks.5.0", "blocks.5.1", "blocks.5.2.conv_pw", "blocks.5.2.bn1"),
        *("blocks.5.2.conv_dw", "blocks.5.2.bn2"),
    ),
    "inceptionv3": (
        *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"),
        *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d"),
        "Mixed_6e.branch7x7dbl_1",
    ),
}


def _register(backbone: str, timm_name: str, parameters: int, note: str, *stages: tuple[str, ...]) -> None:
    scale = {"mean": INCEPTION, "std": INCEPTION} if backbone == "inceptionv3" else {}
    register(
        f"{backbone}_vit",
        summary=f"{timm_name.partition('.')[0] or 'six convolutions'} and two transformer blocks",
        arguments={"backbone": backbone},
        input=_rule(backbone),
        cam_target="last_map",
        paper_parameters=parameters,
        note=note,
        stages=(_OWN, *(tuple(f"backbone.{part}" for part in stage) for stage in stages)),
        frozen=tuple(f"backbone.{part}" for part in FROZEN[backbone]),
        pretrained={"backbone.": timm_name} if timm_name else {},
        **scale,
        **_FACTS,
    )(hybrid)


_KERAS = (
    "For the same layers, Keras counts more parameters than torch: {more}. With these, the number in the table is "
    "reached exactly. The first {layers} Keras layers, which the paper freezes, end in {inside}; with the running "
    "statistics, they have the {frozen} parameters that the table states as not trained."
)

_register(
    "customcnn",
    "",
    5_684_168,
    "The number in the table is reached exactly. The paper does not list the layers of the CNN: these are one "
    "interpretation.",
    ("norm", "layers"),
)

_register(
    "resnet50",
    "resnet50.a1_in1k",
    359_287_688,
    _KERAS.format(
        more="the running statistics of normalisation layers, and the biases before them",
        layers=100,
        inside="layer3.1",
        frozen="4,134,784",
    ),
    ("layer4", "layer3.5", "layer3.4", "layer3.3", "layer3.2", "layer3.1"),
    ("layer3", "layer2"),
    ("layer1", "conv1", "bn1"),
)

_register(
    "efficientnetb3",
    "efficientnet_b3.ra2_in1k",
    199_643_959,
    _KERAS.format(
        more="the running statistics of normalisation layers, and the normalisation of the input",
        layers=300,
        inside="blocks.5.2",
        frozen="3,871,165",
    ),
    ("conv_head", "bn2", "blocks.6", "blocks.5.5", "blocks.5.4", "blocks.5.3", "blocks.5.2"),
    ("blocks.5", "blocks.4"),
    ("blocks.3", "blocks.2"),
    ("blocks.1", "blocks.0", "conv_stem", "bn1"),
)

_register(
    "inceptionv3",
    "inception_v3.tv_in1k",
    357_502_760,
    _KERAS.format(
        more="the running statistics of normalisation layers, which have no scales in Keras",
        layers=200,
        inside="Mixed_6e",
        frozen="6,998,496",
    ),
    ("Mixed_7c", "Mixed_7b", "Mixed_7a", "Mixed_6e"),
    ("Mixed_6d", "Mixed_6c", "Mixed_6b", "Mixed_6a"),
    ("Mixed_5d", "Mixed_5c", "Mixed_5b"),
    ("Conv2d_4a_3x3", "Conv2d_3b_1x1", "Conv2d_2b_3x3", "Conv2d_2a_3x3", "Conv2d_1a_3x3"),
)


@register(
    paper="S2",
    summary="Several CNNs that share one transformer and one head",
    reference=_FACTS["reference"],
    licence=_FACTS["licence"],
    input=_rule("inceptionv3"),
    cam_target="last_map",
    stages=(("classifier", "norm", "blocks", "position", "embeds"), ("backbones",)),
    frozen=tuple(f"backbones.{name}.{part}" for name, parts in FROZEN.items() for part in parts),
    pretrained={
        "backbones.resnet50.": "resnet50.a1_in1k",
        "backbones.efficientnetb3.": "efficientnet_b3.ra2_in1k",
    },
    note="The paper mentions sharing across backbones but does not describe it: here their vectors are averaged.",
)
def shared_vit(
    num_classes: int,
    backbones: Sequence[str] = ("resnet50", "efficientnetb3"),
    heads: Sequence[int] = (8, 8),
    dropout: float = 0.2,
    head_dropout: float = 0.5,
) -> nn.Module:
    """Build several backbones that share a transformer.

    Parameters
    ----------
    num_classes : int
    backbones : sequence of {"customcnn", "resnet50", "efficientnetb3", "inceptionv3"}
    heads : sequence of int
        Attention heads of each transformer block.
    dropout, head_dropout : float
        In the transformer, and before the last layer.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ModelError
        If a backbone does not exist.
    """
    from napari_leukocls.architectures.base import SizeGuard
    from napari_leukocls.architectures.papers._hybrid import BACKBONES, SharedHybrid

    unknown = [name for name in backbones if name not in BACKBONES]
    if unknown or not backbones:
        raise ModelError(f"shared_vit takes the backbones {', '.join(BACKBONES)}, not {unknown or 'none'}.")
    guard = SizeGuard("shared_vit", _rule("inceptionv3" if "inceptionv3" in backbones else ""))
    return SharedHybrid(guard, num_classes, backbones, heads, dropout, head_dropout)
