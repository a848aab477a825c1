"""How unlike the training data a cell is: fitted when a model is trained, stored in its weights.

The score joins two views of a network. In feature space: the cosine distance to the nearest of a set
of training cells (k nearest neighbours, Sun et al. 2022) after projection on the principal directions of
the training features. In output space: the free energy of the logits (Liu et al. 2020). Each is put on the
scale of held-back training cells (0 is their median, 1 their 95th percentile) and the two are added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Training cells kept for the neighbour search, per class.
KEPT_PER_CLASS = 120
#: Principal directions kept.
DIRECTIONS = 64
#: Which neighbour's distance counts.
NEIGHBOUR = 5


def features_and_logits(net: nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pooled features (N, D) that feed the head, and the logits (N, C)."""
    maps = net.forward_features(batch)  # type: ignore[operator]
    features = net.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    return features, net.get_classifier()(features)  # type: ignore[operator]


def _unit(features: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    projected = (features - tensors["centre"]) @ tensors["directions"]
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-9)


def _distance(features: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
    """Cosine distance (N,) to the `NEIGHBOUR`-th nearest kept training cell."""
    similarity = _unit(features, tensors) @ tensors["kept"].T
    rank = similarity.shape[1] - min(NEIGHBOUR, similarity.shape[1])
    return 1 - np.partition(similarity, rank, axis=1)[:, rank]
