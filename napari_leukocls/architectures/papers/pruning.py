"""Attention-guided pruning of the hybrids: heads and blocks with the lowest attention entropy are removed.

The paper prunes by attention but states no formula. Here the contribution of a head is the mean entropy of its
attention, divided by the largest possible entropy: a head with an entropy near 0 attends to one token only.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn

from napari_leukocls.architectures.base import Attention
from napari_leukocls.errors import ModelError


def attention_entropy(net: nn.Module, images: torch.Tensor) -> list[list[float]]:
    """Compute the mean attention entropy of each head of each block.

    Parameters
    ----------
    net : nn.Module
        With `blocks`, each with an `attention`.
    images : torch.Tensor
        (N, 3, H, W).

    Returns
    -------
    list of list of float
        A list of heads for each block: 0 (attends to one token) to 1 (to all tokens equally).

    Raises
    ------
    ModelError
        If the network has no such blocks.
    """
    found: list[list[float]] = []

    def measure(attention: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        weights = attention.weights(*inputs).float()
        entropy = torch.special.entr(weights).sum(-1) / math.log(max(weights.shape[-1], 2))
        found.append(entropy.mean((0, 2)).tolist())

    hooks = [block.attention.register_forward_pre_hook(measure) for block in _blocks(net)]
    training = net.training
    net.eval()
    try:
        with torch.no_grad():
            net(images)
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    return found


def prune(
    net: nn.Module, images: torch.Tensor, *, blocks: int = 0, heads: int = 0
) -> tuple[nn.Module, dict[str, Any]]:
    """Copy a hybrid without the blocks and heads that contribute least.

    Parameters
    ----------
    net : nn.Module
    images : torch.Tensor
        (N, 3, H, W), representative of the data.
    blocks : int
        Number of blocks that are removed, before the heads.
    heads : int
        Number of heads that are removed from the remaining blocks together; each block keeps at least one.

    Returns
    -------
    net : nn.Module
    arguments : dict
        Arguments with which `create` builds a network for the copy's weights.

    Raises
    ------
    ModelError
        If more blocks or heads are to be removed than possible.
    """
    entropy = attention_entropy(net, images)
    means = [sum(block) / len(block) for block in entropy]
    if not 0 <= blocks < len(means):
        raise ModelError(f"{blocks} of {len(means)} blocks cannot be removed: one must be kept.")
    kept = sorted(sorted(range(len(means)), key=means.__getitem__)[blocks:])
    spare = sum(len(entropy[number]) - 1 for number in kept)
    if not 0 <= heads <= spare:
        raise ModelError(f"{heads} heads cannot be removed: at most {spare}, as each block keeps one.")
    remaining_heads = {number: set(range(len(entropy[number]))) for number in kept}
    for _, number, head in sorted((entropy[n][h], n, h) for n in kept for h in remaining_heads[n]):
        if heads and len(remaining_heads[number]) > 1:
            remaining_heads[number].remove(head)
            heads -= 1
    pruned = copy.deepcopy(net)
    remaining = [_blocks(pruned)[number] for number in kept]
    for block, number in zip(remaining, kept, strict=True):
        block.attention = _with_heads(block.attention, sorted(remaining_heads[number]))
    pruned.blocks = nn.ModuleList(remaining)
    return pruned, {"heads": [len(remaining_heads[number]) for number in kept]}


def _blocks(net: nn.Module) -> list[Any]:
    blocks = list(getattr(net, "blocks", []))
    if not blocks or not all(hasattr(getattr(block, "attention", None), "weights") for block in blocks):
        raise ModelError("only the hybrids of a CNN and a transformer can be pruned by attention.")
    return blocks


def _with_heads(attention: Any, heads: list[int]) -> nn.Module:
    """Return a copy of an attention layer that has only the listed heads."""
    width, head_width = attention.out.out_features, attention.head_width
    smaller = Attention(width, len(heads), head_width, attention.dropout)
    smaller = smaller.to(attention.out.weight.device, attention.out.weight.dtype).train(attention.training)
    rows = torch.cat([torch.arange(head * head_width, (head + 1) * head_width) for head in heads])
    rows = rows.to(attention.out.weight.device)
    with torch.no_grad():
        for name in ("query", "key", "value"):
            before, after = getattr(attention, name), getattr(smaller, name)
            after.weight.copy_(before.weight[rows])
            after.bias.copy_(before.bias[rows])
        smaller.out.weight.copy_(attention.out.weight[:, rows])
        smaller.out.bias.copy_(attention.out.bias)
    return smaller
