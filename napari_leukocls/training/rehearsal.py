"""The last layer fitted on few new cells and on stored features of the old classes."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from napari_leukocls.training.replay import Replay
from napari_leukocls.training.split import assign

#: Parts of the cross-validation.
FOLDS = 5
#: Steps of a fit; each looks at all features.
STEPS = 150
RATE = 3e-3
#: Pull of the old classes' weights back to where they started.
PULL = 1e-3

Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class NewCells:
    """Features of the new laboratory's crops.

    Attributes
    ----------
    views : torch.Tensor, (V, N, D)
        The first view is the crop as it is.
    classes : numpy.ndarray, (N,), int
    units : numpy.ndarray, (N,), int
        Crops of one unit are judged together.
    """

    views: torch.Tensor
    classes: np.ndarray
    units: np.ndarray

    @property
    def plain(self) -> np.ndarray:
        """Features (N, D) of the crops as they are."""
        return self.views[0].numpy()

    def training(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and classes of some rows, in all views."""
        features = self.views[:, torch.from_numpy(rows)].flatten(0, 1)
        return features, torch.from_numpy(np.tile(self.classes[rows], len(self.views)))


def fit_layer(new: tuple[torch.Tensor, torch.Tensor], replay: Replay, start: Layer, n_old: int) -> Layer:
    """Fit a last layer on new cells and rehearsed ones.

    Parameters
    ----------
    new : tuple of torch.Tensor
        Features (M, D) and classes (M,).
    replay : Replay
    start : tuple of torch.Tensor
        Weight (C, D) and bias (C,) to begin with.
    n_old : int
        Classes that the model knew: the first rows.

    Returns
    -------
    weight, bias : torch.Tensor
    """
    kept, kept_classes = (torch.from_numpy(values) for values in replay.rehearse())
    weight, bias = (values.clone().requires_grad_(True) for values in start)
    optimiser = torch.optim.Adam([weight, bias], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for _ in range(STEPS):
        # Both sides weigh the same however many cells each has.
        loss = functional.cross_entropy(new[0] @ weight.T + bias, new[1])
        loss = loss + functional.cross_entropy(kept @ weight.T + bias, kept_classes)
        loss = loss + PULL * ((weight[:n_old] - start[0][:n_old]) ** 2).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    return weight.detach(), bias.detach()


def logits_by(layer: Layer, features: np.ndarray) -> np.ndarray:
    """Logits (N, C) of features (N, D)."""
    return features @ layer[0].numpy().T + layer[1].numpy()


def folds_of(cells: NewCells, seed: int) -> np.ndarray:
    """Part (N,) of the cross-validation that each crop is judged in; units are whole, classes are spread."""
    count = min(FOLDS, len(np.unique(cells.units)))
    return assign(cells.units, cells.classes, [1 / count] * count, np.random.default_rng(seed))


def cross_validate(
    cells: NewCells, replay: Replay, start: Layer, n_old: int, seed: int
) -> Generator[tuple[int, int], None, np.ndarray]:
    """Logits (N, C) of each crop by a layer that was fitted without it.

    Yields
    ------
    tuple of int
        Parts done, and how many there are.
    """
    fold = folds_of(cells, seed)
    logits = np.zeros((len(cells.classes), len(start[1])), np.float32)
    for number in np.unique(fold):
        yield int(number), int(fold.max()) + 1
        inside = np.flatnonzero(fold != number)
        layer = fit_layer(cells.training(inside), replay, start, n_old) if len(inside) else start
        judged = np.flatnonzero(fold == number)
        logits[judged] = logits_by(layer, cells.plain[judged])
    return logits


def recalls(
    cells: NewCells,
    judged: np.ndarray,
    replay: Replay,
    before: Layer,
    after: Layer,
    classes: tuple[str, ...],
    n_old: int,
) -> dict[str, Any]:
    """Mean recall of the classes before and after, on old cells, on the new laboratory's, and on new classes.

    Parameters
    ----------
    cells : NewCells
    judged : numpy.ndarray, (N, C)
        Cross-validated logits of the new crops.
    replay : Replay
    before, after : tuple of torch.Tensor
        The last layer; before, new classes are not in question.
    classes : tuple of str
    n_old : int
    """
    features, truth = replay.checked()
    known = cells.classes < n_old
    old_layer = before[0][:n_old], before[1][:n_old]
    sets = {
        "old_classes": (truth, logits_by(old_layer, features), logits_by(after, features)),
        "this_laboratory": (cells.classes[known], logits_by(old_layer, cells.plain[known]), judged[known]),
        "new_classes": (cells.classes[~known], None, judged[~known]),
    }
    result: dict[str, Any] = {}
    for name, (right, first, then) in sets.items():
        if len(right):
            result[name] = {
                "n": len(right),
                "before": None if first is None else float(np.mean(list(_by_class(right, first).values()))),
                "after": float(np.mean(list(_by_class(right, then).values()))),
                "per_class": {classes[k]: value for k, value in _by_class(right, then).items()},
            }
    return result


def _by_class(truth: np.ndarray, logits: np.ndarray) -> dict[int, float]:
    guess = logits.argmax(axis=1)
    return {int(k): float((guess[truth == k] == k).mean()) for k in np.unique(truth)}
