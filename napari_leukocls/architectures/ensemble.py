"""Several networks that decide together: the mean of their logits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from napari_leukocls.architectures.entry import INCEPTION, InputRule
from napari_leukocls.architectures.mobilenet import MOBILENET, STAGES, mobilenet_v2
from napari_leukocls.architectures.registry import register

_RULE = InputRule(side=128, smallest=32)


def _stages(net: Any) -> tuple[tuple[str, ...], ...]:
    """The joint layer, then each stage of all members at once, from the last to the stem."""
    by_member = [_stages_of(member) for member in net.members]
    return (
        ("classifier",),
        *(
            tuple(f"members.{i}.{name}" for i, part in enumerate(parts) for name in part)
            for parts in zip_longest(*by_member, fillvalue=())
        ),
    )


def _stages_of(member: Any) -> tuple[tuple[str, ...], ...]:
    from napari_leukocls.architectures._inverted_residuals import InvertedResidualNet

    if isinstance(member, InvertedResidualNet):
        return STAGES
    from napari_leukocls.architectures.timm_networks import timm_stages

    return timm_stages(member)


def _body(name: str, arguments: dict[str, Any]) -> Any:
    """A network without a last layer; those of the bundled models are built without timm."""
    if name == MOBILENET:
        return mobilenet_v2(0, **arguments)
    if name == "tf_efficientnet_lite0" and not arguments:
        from napari_leukocls.architectures._inverted_residuals import EfficientNetLite0

        return EfficientNetLite0(0)
    from napari_leukocls.architectures.timm_networks import timm_network

    return timm_network(name, 0, **arguments)


@register(
    "ensemble",
    summary="Networks whose logits are averaged; slower and more accurate than each",
    reference="Lakshminarayanan, Pritzel, Blundell: Deep ensembles. NeurIPS 2017.",
    input=_RULE,
    mean=INCEPTION,
    std=INCEPTION,
    cam_target="joined",
    stages=_stages,
    arguments={
        "member": "mobilenetv2_100",
        "count": 3,
        "member_arguments": {"pad_type": "same"},
        "others": (),
    },
    note="Each member is a timm network that ends in one linear layer; these layers are joined into one.",
)
def ensemble(
    num_classes: int,
    member: str,
    count: int,
    member_arguments: dict[str, Any],
    others: Sequence[dict[str, Any]],
) -> Any:
    """Build an ensemble of networks.

    Parameters
    ----------
    num_classes : int
    member : str
        Name of a timm network.
    count : int
        Number of members of this kind.
    member_arguments : dict
        Arguments of each of them.
    others : sequence of dict
        Further members of other kinds, after these: each has a `member` and, if it needs any, `arguments`. All members
        reduce an image to the same number of places.

    Returns
    -------
    torch.nn.Module
    """
    from napari_leukocls.architectures._ensemble import EnsembleNet

    bodies = [_body(member, member_arguments) for _ in range(count)]
    bodies += [_body(other["member"], other.get("arguments", {})) for other in others]
    return EnsembleNet(_RULE, num_classes, bodies)
