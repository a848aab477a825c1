"""The ensemble's network: the members' maps side by side, and one linear layer over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from napari_leukocls.architectures.base import HeadedNet, SizeGuard
from napari_leukocls.architectures.entry import InputRule
from napari_leukocls.errors import ModelError


class EnsembleNet(HeadedNet):
    """Networks whose last maps have the same places; averaging their logits is one linear layer over all features.

    Parameters
    ----------
    rule : InputRule
    num_classes : int
    bodies : sequence of torch.nn.Module
        Networks without a last layer, with timm's ``forward_features``, ``forward_head`` and ``num_features``.
    """

    def __init__(self, rule: InputRule, num_classes: int, bodies: Sequence[Any]) -> None:
        super().__init__(SizeGuard("ensemble", rule), sum(body.num_features for body in bodies), num_classes)
        self.members: Any = nn.ModuleList(bodies)
        self.joined = nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the members' last maps, side by side.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, sum of C, h, w)
        """
        self.guard.check(images)
        tensor: torch.Tensor = self.joined(
            torch.cat([body.forward_features(images) for body in self.members], 1)
        )
        return tensor

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        """Compute the members' vectors, side by side.

        Parameters
        ----------
        maps : torch.Tensor, (N, sum of C, h, w)

        Returns
        -------
        torch.Tensor, (N, sum of C)
        """
        parts = maps.split([body.num_features for body in self.members], 1)
        heads = zip(self.members, parts, strict=True)
        return torch.cat([body.forward_head(part, pre_logits=True) for body, part in heads], 1)


def join_members(
    states: Sequence[Mapping[str, torch.Tensor]],
    last: str = "classifier",
    shares: Sequence[float] | None = None,
) -> dict[str, torch.Tensor]:
    """Make an ensemble's state dict of its members'.

    Parameters
    ----------
    states : sequence of state dict
        Of timm networks, each with one linear layer named `last` at its end.
    last : str
    shares : sequence of float, optional
        Weight of each member's logits; all the same if not given. They are divided by their sum.

    Returns
    -------
    dict of torch.Tensor
        For `EnsembleNet`: its logits are the weighted mean of the members'.

    Raises
    ------
    ModelError
        Where a member has no such layer.
    """
    names = (f"{last}.weight", f"{last}.bias")
    if any(name not in state for state in states for name in names):
        raise ModelError(f"a member has no linear layer {last!r} at its end: name it.")
    joined = {
        f"members.{index}.{name}": value
        for index, state in enumerate(states)
        for name, value in state.items()
        if name not in names
    }
    given = torch.ones(len(states)) if shares is None else torch.tensor(shares, dtype=torch.float32)
    parts = given / given.sum()
    weights = torch.cat(
        [part * state[names[0]].float() for part, state in zip(parts, states, strict=True)], 1
    )
    bias = parts @ torch.stack([state[names[1]].float() for state in states])
    dtype = states[0][names[0]].dtype
    return {**joined, "classifier.weight": weights.to(dtype), "classifier.bias": bias.to(dtype)}
