"""A new laboratory without labels: how far its cells' features are moved, whatever their classes.

Another stain or camera moves the features of all classes into about the same direction. The shift is the mean, over the
classes, of the distance between the cells that are taken for a class and the stored cells of that class; so a
laboratory with other shares of the classes is not taken for one with another stain. Moving the features back is the
same as another bias of the last layer. Shift and classes are estimated in turns, as in expectation maximisation.

Without labels nobody can say how many cells are right: temperature, thresholds and out-of-distribution score stay as
they are, so that no cell escapes review because the model only seems surer. Two things can be checked: that two halves
of the cells tell the same shift, and that the shift of one half brings the other half's cells nearer to the stored
cells. Where they fail, nothing is changed.

References
----------
.. [1] Sun, B., Feng, J. & Saenko, K. (2016). Return of frustratingly easy domain adaptation. AAAI: features are
   aligned by their statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import softmax

from napari_leukocls.training.site_layer import Layer

if TYPE_CHECKING:
    from napari_leukocls.training.feature_replay import Replay

#: Turns of shift and classes.
TURNS = 3
#: Cells of a class that its distance needs to count half.
HALF_TRUSTED = 3.0
#: Cells with which the whole shift is counted half.
HALF_SHIFTED = 5.0
#: Fewest cells that a shift is estimated on.
FEWEST = 20
#: Least cosine between the shifts that two halves of the cells tell.
AGREEMENT = 0.5


@dataclass(frozen=True)
class Moved:
    """What cells without labels tell about a laboratory.

    Attributes
    ----------
    layer : Layer or None
        With other biases; None where the old one is kept.
    figures : dict
        The checks, for the card.
    why : str
        Why nothing is changed; empty if something is.
    """

    layer: Layer | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    why: str = ""


def shift_of(features: np.ndarray, layer: Layer, temperature: float, replay: Replay) -> np.ndarray:
    """Estimate how far the features of a laboratory are moved.

    Parameters
    ----------
    features : numpy.ndarray, (N, D)
    layer : Layer
    temperature : float
    replay : Replay

    Returns
    -------
    numpy.ndarray, (D,)
    """
    old, old_classes = replay.rehearse()
    numbers = np.unique(old_classes)
    means = np.stack([old[old_classes == k].mean(axis=0, dtype=np.float64) for k in numbers])
    shift = np.zeros(features.shape[1])
    for _ in range(TURNS):
        logits = (features - shift) @ layer.weight.T + layer.bias
        share = softmax(logits / temperature, axis=1)[:, numbers]
        count = share.sum(axis=0)
        theirs = share.T @ features / np.maximum(count, 1e-9)[:, None]
        trust = count / (count + HALF_TRUSTED)
        shift = (trust[:, None] * (theirs - means)).sum(axis=0) / max(trust.sum(), 1e-9)
    array: np.ndarray = shift * len(features) / (len(features) + HALF_SHIFTED)
    return array


def moved_layer(layer: Layer, shift: np.ndarray) -> Layer:
    """Return the layer that gives moved features the logits of features that are not.

    Parameters
    ----------
    layer : Layer
    shift : numpy.ndarray, (D,)

    Returns
    -------
    Layer
    """
    return Layer(layer.weight, layer.bias - layer.weight @ shift)


def check_shift(
    features: np.ndarray, layer: Layer, temperature: float, replay: Replay, seed: int
) -> dict[str, float]:
    """Check a shift on halves of the cells.

    Parameters
    ----------
    features : numpy.ndarray, (N, D)
    layer : Layer
    temperature : float
    replay : Replay
    seed : int

    Returns
    -------
    dict of float
        ``agreement``: cosine of the two halves' shifts. ``nearer``: by what share the squared distance of cells to the
        nearest class falls, when the other half's shift is taken off.
    """
    old, old_classes = replay.rehearse()
    means = np.stack([old[old_classes == k].mean(axis=0) for k in np.unique(old_classes)])
    order = np.random.default_rng(seed).permutation(len(features))
    halves = [order[: len(order) // 2], order[len(order) // 2 :]]
    shifts = [shift_of(features[rows], layer, temperature, replay) for rows in halves]
    lengths = np.linalg.norm(shifts[0]) * np.linalg.norm(shifts[1])
    away, still = 0.0, 0.0
    for rows, shift in zip(halves, reversed(shifts), strict=True):
        still += _nearest(features[rows], means)
        away += _nearest(features[rows] - shift, means)
    return {
        "agreement": float(shifts[0] @ shifts[1] / max(lengths, 1e-12)),
        "nearer": float(1 - away / max(still, 1e-12)),
    }


def _nearest(features: np.ndarray, means: np.ndarray) -> float:
    squared = ((features[:, None] - means[None]) ** 2).sum(axis=2)
    return float(squared.min(axis=1).sum())


def learn_unlabelled(
    features: np.ndarray, layer: Layer, replay: Replay, temperature: float, seed: int = 0
) -> Moved:
    """Learn a laboratory from the features of its cells alone.

    Parameters
    ----------
    features : numpy.ndarray, (N, D)
    layer : Layer
    replay : Replay
    temperature : float
    seed : int
        By which the cells are parted into halves.

    Returns
    -------
    Moved
    """
    if len(features) < FEWEST:
        return Moved(why=f"{len(features)} cells are too few: give {FEWEST} or more, of several slides")
    checks = check_shift(features, layer, temperature, replay, seed)
    shift = shift_of(features, layer, temperature, replay)
    new = moved_layer(layer, shift)
    old, old_classes = replay.checked()
    guess, was = new.logits(features).argmax(axis=1), layer.logits(features).argmax(axis=1)
    figures: dict[str, Any] = {
        **checks,
        "length": float(np.linalg.norm(shift)),
        "classes_changed": int((guess != was).sum()),
        "old_cells_before": float((layer.logits(old).argmax(axis=1) == old_classes).mean()),
        "old_cells_after": float((new.logits(old).argmax(axis=1) == old_classes).mean()),
    }
    if checks["agreement"] < AGREEMENT:
        return Moved(
            figures=figures, why="two halves of the cells do not tell the same shift: give more cells"
        )
    if checks["nearer"] <= 0:
        return Moved(figures=figures, why="the cells do not come nearer to those that the model knows")
    return Moved(new, figures)
