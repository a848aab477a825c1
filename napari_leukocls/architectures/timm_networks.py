"""Any timm classifier as an entry, made on the fly from timm's own description of it.

Importing this module imports timm, which takes longer than torch: only what asks for a timm network does so.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import timm
from timm.models import group_parameters
from torch import nn

from napari_leukocls.architectures.base import SizeGuard
from napari_leukocls.architectures.entry import IMAGENET_MEAN, IMAGENET_STD, Entry, InputRule

_SOURCE = "https://github.com/huggingface/pytorch-image-models"


@lru_cache(maxsize=1)
def timm_names() -> tuple[str, ...]:
    """Return the names of timm's classifiers, without the tags of their weights."""
    return tuple(timm.list_models())


def timm_network(name: str, num_classes: int, **arguments: Any) -> nn.Module:
    """Build a timm network with random weights; nothing is downloaded.

    Parameters
    ----------
    name : str
    num_classes : int
        0 leaves out the last layer.
    **arguments
        As `timm.create_model` takes them.

    Returns
    -------
    torch.nn.Module
    """
    return timm.create_model(name, pretrained=False, num_classes=num_classes, **arguments)


def build_timm(num_classes: int, *, timm_name: str, rule: InputRule, **arguments: Any) -> nn.Module:
    """Build a timm network with random weights that refuses images of a size that it is not made for.

    Parameters
    ----------
    num_classes : int
    timm_name : str
    rule : InputRule
    **arguments
        As `timm.create_model` takes them. `img_size`, for networks that have it, makes the network for that side.

    Returns
    -------
    torch.nn.Module
    """
    net = timm_network(timm_name, num_classes, **arguments)
    side = arguments.get("img_size", rule.side)
    if arguments.get("dynamic_img_size"):
        rule = InputRule(side=side)
    elif side != rule.side:
        rule = InputRule(side=side, smallest=min(side, rule.smallest), fixed=rule.fixed)
    net.register_forward_pre_hook(SizeGuard(timm_name, rule))
    return net


def timm_entry(name: str) -> Entry | None:
    """Describe a timm network.

    Parameters
    ----------
    name : str
        With or without the tag of its weights.

    Returns
    -------
    Entry or None
        None where timm has no network of that name.
    """
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
        stages=timm_stages,
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
    layer: nn.Module = last.norm1 if hasattr(last, "norm1") and hasattr(last, "attn") else last
    if blocks is not None and hasattr(blocks[-1], "norm1"):
        layer = blocks[-1].norm1
    return layer


def timm_stages(net: Any) -> tuple[tuple[str, ...], ...]:
    """Return timm's own groups of parameters, from the head to the stem.

    Parameters
    ----------
    net : torch.nn.Module
        A timm network.

    Returns
    -------
    tuple of tuple of str
        Prefixes of the parameters' names, group by group.
    """
    groups = group_parameters(net, net.group_matcher(coarse=True))
    ordered = [groups[key] for key in sorted(groups, reverse=True)]
    return tuple(tuple(dict.fromkeys(name.rpartition(".")[0] or name for name in names)) for names in ordered)
