"""QLViT, the steps of its ablation from v0 to v4, and MViTv2, from which it is derived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import INPUT, InputRule
from napari_leukocls.architectures.registry import register
from napari_leukocls.errors import ArgumentError

if TYPE_CHECKING:
    from torch import nn

_MVIT_INPUT = InputRule(side=224, fixed=True)

_REFERENCE = (
    "Wu, Liu, Zhao, Guo, Yu (2025), QLViT: a lightweight cell classification method for microscope images "
    "based on MViTv2 and linear attention"
)

_ONNX_REFUSAL = (
    "it rounds to eight bits and to powers of two in every layer, and another runtime adds floats in another "
    "order, so that some values are rounded differently, which changes logits by up to about 0.06"
)

_KAN_NOTE = (
    "The paper's count includes no KAN layer: its v4 is its v3 without the perceptrons (16.02 M, 2.31 G). Here "
    "the KAN layers are counted, with edges in 16 groups."
)

_LADDER_NOTE = (
    "The paper's ablation contradicts itself (its v1 is plain MViTv2). The widths are those of MViTv2-T."
)


def _stages(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    from napari_leukocls.architectures.papers.qlvit.network import unfreezing_stages

    return unfreezing_stages(net)


def _facts(step: str, summary: str, parameters: int, macs: float, note: str = _LADDER_NOTE) -> dict[str, Any]:
    return {
        "paper": "S4",
        "summary": summary,
        "reference": _REFERENCE,
        "input": INPUT,
        "cam_target": "norm",
        "cam_reshape": "channels_last",
        "stages": _stages,
        "arguments": {"step": step},
        "paper_parameters": parameters,
        "paper_macs": macs,
        "onnx_refusal": "" if step == "v0" else _ONNX_REFUSAL,
        "note": note,
    }


@register(
    "qlvit", **_facts("v4", "linear attention, splines, eight-bit layers", 9_070_000, 1.95e9, _KAN_NOTE)
)
@register("qlvit_v4", **_facts("v4", "qlvit, by its name in the ablation", 9_070_000, 1.95e9, _KAN_NOTE))
@register("qlvit_v3", **_facts("v3", "qlvit with a perceptron for the splines", 25_090_000, 4.27e9))
@register("qlvit_v2", **_facts("v2", "qlvit_v3 with softmax attention", 25_110_000, 4.29e9))
@register("qlvit_v1", **_facts("v1", "qlvit_v2 with float linear layers", 23_330_000, 4.00e9))
@register("qlvit_v0", **_facts("v0", "MViTv2's shape with a convolution before attention", 24_780_000, 4.3e9))
def build_qlvit(
    num_classes: int,
    *,
    step: str = "v4",
    widths: Sequence[int] = (96, 192, 384, 768),
    depths: Sequence[int] = (1, 2, 5, 2),
    heads: Sequence[int] = (1, 2, 4, 8),
    stem_kernel: int = 15,
    drop_rate: float = 0.0,
    drop_path_rate: float = 0.0,
    kernels: int = 4,
    temperature: float = 4.0,
    kan_groups: int = 16,
    kan_cells: int = 5,
    int8: bool = False,
) -> nn.Module:
    """Build QLViT or a step of its ablation.

    Parameters
    ----------
    num_classes : int
    step : str
        ``v0`` to ``v4``; each adds to the one before.
    widths, depths, heads, stem_kernel, drop_rate, drop_path_rate
        As for `napari_leukocls.architectures.papers.qlvit.network.QLViT`.
    kernels, temperature, kan_groups, kan_cells
        As for `napari_leukocls.architectures.papers.qlvit.blocks.CLAOptions`.
    int8 : bool
        Build it with empty int8 layers, for the weights of a network from
        `napari_leukocls.architectures.papers.qlvit.quantisation.convert`.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ArgumentError
        If the step does not exist, or the widths do not fit the heads or groups.
    """
    from napari_leukocls.architectures.papers.qlvit.network import STEPS, QLViT, empty_int8

    if step not in STEPS:
        raise ArgumentError(f"QLViT has no step {step!r}: choose one of {', '.join(STEPS)}.")
    options = replace(
        STEPS[step], kernels=kernels, temperature=temperature, kan_groups=kan_groups, kan_cells=kan_cells
    )
    net = QLViT(num_classes, widths, depths, heads, stem_kernel, drop_rate, drop_path_rate, options)
    return empty_int8(net) if int8 else net


@register(
    "mvitv2_tiny",
    paper="S4",
    summary="MViTv2, from which QLViT is derived and with which it is compared",
    reference="Li et al. (2022), MViTv2: improved multiscale vision transformers, CVPR; timm mvitv2_tiny",
    licence="Apache-2.0 (code and weights)",
    input=_MVIT_INPUT,
    cam_target="norm",
    cam_reshape="tokens",
    stages=(("head",), ("norm", "stages.3"), ("stages.2",), ("stages.1",), ("stages.0",), ("patch_embed",)),
    pretrained={"": "mvitv2_tiny"},
    paper_parameters=23_330_000,
    paper_macs=4.00e9,
    note="The paper's 4.00 G are without the products in attention (0.70 G); the authors of MViTv2 state 4.7 G.",
)
def build_mvitv2_tiny(num_classes: int, **arguments: Any) -> nn.Module:
    """Build timm's MViTv2-T, for images of one size.

    Parameters
    ----------
    num_classes : int
    **arguments
        For timm, as ``img_size``.

    Returns
    -------
    torch.nn.Module

    References
    ----------
    Li et al. (2022). MViTv2: improved multiscale vision transformers for classification and detection. CVPR.
    """
    from napari_leukocls.architectures.timm_networks import build_timm

    return build_timm(num_classes, timm_name="mvitv2_tiny", rule=_MVIT_INPUT, **arguments)
