"""Any timm classifier as an entry, made on the fly from timm's own description of it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.entry import IMAGENET_MEAN, IMAGENET_STD, Entry, InputRule

if TYPE_CHECKING:
    from torch import nn

_SOURCE = "https://github.com/huggingface/pytorch-image-models"


@lru_cache(maxsize=1)
def timm_names() -> tuple[str, ...]:
    """Return the names of timm's classifiers, without tags."""
    import timm

    return tuple(timm.list_models())


def build_timm(num_classes: int, *, timm_name: str, rule: InputRule, **arguments: Any) -> nn.Module:
    """Build a timm model with random weights that refuses images of a size that it is not made for.

    `img_size` among the arguments, for models that have it, makes the network for that side.
    """
    import timm

    from napari_leukocls.architectures.base import SizeGuard

    net = timm.create_model(timm_name, pretrained=False, num_classes=num_classes, **arguments)
    side = arguments.get("img_size", rule.side)
    if arguments.get("dynamic_img_size"):
        rule = InputRule(side=side)
    elif side != rule.side:
        rule = InputRule(side=side, smallest=min(side, rule.smallest), fixed=rule.fixed)
    net.register_forward_pre_hook(SizeGuard(timm_name, rule))
    return net


def timm_entry(name: str) -> Entry | None:
    """Return the entry of a timm model (with or without a tag), or None where timm has none by that name."""
    import timm

    if not timm.is_model(name):
        return None
    cfg = timm.get_pretrained_cfg(name)
    facts = cfg.to_dict() if cfg is not None else {}
    smallest = facts.get("min_input_size")
    fixed = bool(facts.get("fixed_input_size", False))
    rule = InputRule(
        side=int((facts.get("input_size") or (3, 224, 224))[-1]),
        smallest=int(smallest[-1]) if smallest else 32,
        fixed=fixed,
    )
    return Entry(
        name=name,
        build=partial(build_timm, timm_name=name, rule=rule),
        paper="timm",
        summary=f"timm's {name}",
        reference=str(facts.get("origin_url") or facts.get("paper_name") or _SOURCE),
        licence=f"Apache-2.0 (code), {facts.get('license') or 'not stated'} (weights)",
        input=rule,
        mean=tuple(facts.get("mean") or IMAGENET_MEAN),
        std=tuple(facts.get("std") or IMAGENET_STD),
        cam_target=_cam_target,
        cam_reshape="auto",
        stages=_stages,
        pretrained={"": name},
    )


def _cam_target(net: Any) -> nn.Module:
    """Return the last layer that still has places.

    In a transformer that is the last block's first norm: what comes after it reaches the class token alone,
    so that the other tokens would have no gradient.
    """
    modules = dict(net.named_modules())
    last = modules.get(net.feature_info[-1]["module"])
    if last is None:  # timm names a module that is not there, as in MViTv2
        last = net.stages[-1]
    blocks = getattr(last, "blocks", None)
    if blocks is not None and hasattr(blocks[-1], "norm1"):
        return blocks[-1].norm1
    return last.norm1 if hasattr(last, "norm1") and hasattr(last, "attn") else last


def _stages(net: Any) -> tuple[tuple[str, ...], ...]:
    """Return timm's own groups of parameters, from the head to the stem, as prefixes of their names."""
    from timm.models import group_parameters

    groups = group_parameters(net, net.group_matcher(coarse=True))
    ordered = [groups[key] for key in sorted(groups, reverse=True)]
    return tuple(tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in names)) for names in ordered)
