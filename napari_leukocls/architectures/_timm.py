"""Any timm classifier as an entry, made on the fly from timm's own description of it."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from napari_leukocls.architectures.registry import IMAGENET_MEAN, IMAGENET_STD, Entry, InputRule

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=1)
def timm_names() -> tuple[str, ...]:
    """Return the names of timm's classifiers, without tags."""
    import timm

    return tuple(timm.list_models())


def build_timm(num_classes: int, *, timm_name: str, **arguments: Any) -> nn.Module:
    """Build a timm model with random weights."""
    import timm

    return timm.create_model(timm_name, pretrained=False, num_classes=num_classes, **arguments)


def timm_entry(name: str) -> Entry | None:
    """Return the entry of a timm model (with or without a tag), or None where timm has none by that name."""
    import timm

    if not timm.is_model(name):
        return None
    cfg = timm.get_pretrained_cfg(name)
    facts = cfg.to_dict() if cfg is not None else {}
    side = int((facts.get("input_size") or (3, 224, 224))[-1])
    smallest = facts.get("min_input_size")
    return Entry(
        name=name,
        build=partial(build_timm, timm_name=name),
        paper="timm",
        summary=f"timm's {name}",
        reference=str(
            facts.get("origin_url")
            or facts.get("paper_name")
            or "https://github.com/huggingface/pytorch-image-models"
        ),
        licence=f"Apache-2.0 (code), {facts.get('license') or 'not stated'} (weights)",
        input=InputRule(
            side=side,
            smallest=int(smallest[-1]) if smallest else 32,
            fixed=bool(facts.get("fixed_input_size", False)),
        ),
        mean=tuple(facts.get("mean") or IMAGENET_MEAN),
        std=tuple(facts.get("std") or IMAGENET_STD),
        pretrained={"": name},
    )
