"""Attention-guided pruning of the hybrids: heads and blocks whose attention is least spread go.

The paper prunes by attention without a formula. Here a head's contribution is the mean entropy of its
attention, as a share of the largest that its tokens allow: a head near 0 looks at one token, mixing nothing.
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
    """Return for each block the mean attention entropy of each head, from 0 (one token) to 1 (all alike).

    Parameters
    ----------
    net : nn.Module
        With `blocks`, each with an `attention`.
    images : torch.Tensor
        (N, 3, H, W).

    Raises
    ------
    ModelError
        Where the network has no such blocks.
    """
    found: list[list[float]] = []

    def note(attention: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        weights = attention.weights(*inputs).float()
        entropy = torch.special.entr(weights).sum(-1) / math.log(max(weights.shape[-1], 2))
        found.append(entropy.mean((0, 2)).tolist())

    hooks = [block.attention.register_forward_pre_hook(note) for block in _blocks(net)]
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
    """Return a copy of a hybrid without its least contributing blocks and heads.

    Parameters
    ----------
    net : nn.Module
    images : torch.Tensor
        (N, 3, H, W), representative of the work.
    blocks : int
        How many blocks go; they go first.
    heads : int
        How many heads of the remaining blocks go, together; each block keeps one at least.

    Returns
    -------
    net : nn.Module
    arguments : dict
        What to give `create` besides, so that it builds a network which takes the copy's weights.

    Raises
    ------
    ModelError
        Where more is to go than there is.
    """
    entropy = attention_entropy(net, images)
    means = [sum(block) / len(block) for block in entropy]
    if not 0 <= blocks < len(means):
        raise ModelError(f"{blocks} of {len(means)} blocks cannot go: one must stay.")
    kept = sorted(sorted(range(len(means)), key=means.__getitem__)[blocks:])
    spare = sum(len(entropy[number]) - 1 for number in kept)
    if not 0 <= heads <= spare:
        raise ModelError(f"{heads} heads cannot go: {spare} can, as each block keeps one.")
    staying = {number: set(range(len(entropy[number]))) for number in kept}
    for _, number, head in sorted((entropy[n][h], n, h) for n in kept for h in staying[n]):
        if heads and len(staying[number]) > 1:
            staying[number].remove(head)
            heads -= 1
    pruned = copy.deepcopy(net)
    remaining = [_blocks(pruned)[number] for number in kept]
    for block, number in zip(remaining, kept, strict=True):
        block.attention = _with_heads(block.attention, sorted(staying[number]))
    pruned.blocks = nn.ModuleList(remaining)
    return pruned, {"heads": [len(staying[number]) for number in kept]}


def _blocks(net: nn.Module) -> list[Any]:
    blocks = list(getattr(net, "blocks", []))
    if not blocks or not all(hasattr(getattr(block, "attention", None), "weights") for block in blocks):
        raise ModelError("only the hybrids of a CNN and a transformer can be pruned by attention.")
    return blocks


def _with_heads(attention: Any, heads: list[int]) -> nn.Module:
    """Return a copy of an attention layer that has the heads listed alone."""
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
