"""Checks whether heatmaps agree with the model: energy in the cell, deletion, insertion, occlusion.

They accept heatmaps of any method, and hide or show the regions that the maps mark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import t

from napari_leukocls.explanation import cam
from napari_leukocls.explanation.perturbation import (
    FILLS,
    NIL,
    Occlusion,
    area_under,
    deletion_curve,
    insertion_curve,
    occlusion,
    random_maps,
)
from napari_leukocls.explanation.randomisation import iter_randomisation
from napari_leukocls.explanation.trust import EFFECT_FLOOR, state_of
from napari_leukocls.progress import Progress, Steps

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier


def energy_in_cell(heatmaps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of the sum of each map that lies in the cell.

    Parameters
    ----------
    heatmaps : numpy.ndarray, (N, h, w)
    masks : numpy.ndarray, (N, h, w), bool

    Returns
    -------
    numpy.ndarray, (N,)
        NaN where a map is all zero, or a mask is empty.

    References
    ----------
    Wang et al. (2020). Score-CAM: score-weighted visual explanations for convolutional neural networks
    (energy-based pointing game). CVPR workshops.
    """
    total = heatmaps.sum(axis=(1, 2), dtype=np.float64) * masks.any(axis=(1, 2))
    inside = (heatmaps * masks).sum(axis=(1, 2), dtype=np.float64)
    share: np.ndarray = np.divide(inside, total, out=np.full(len(heatmaps), np.nan), where=total > 0)
    return share


def interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % confidence interval of a mean, by Student's t.

    Parameters
    ----------
    differences : numpy.ndarray, (N,)

    Returns
    -------
    low, high : float
        Infinite for fewer than two values.
    """
    n = len(differences)
    if n < 2:
        return (float("-inf"), float("inf"))
    half = t.ppf(0.975, n - 1) * differences.std(ddof=1) / np.sqrt(n)
    return float(differences.mean() - half), float(differences.mean() + half)


def occlusion_figures(found: Occlusion) -> dict[str, Any]:
    """Summarise an occlusion check.

    Parameters
    ----------
    found : Occlusion

    Returns
    -------
    dict
        Mean drops and their ratio; ``passed`` where the ratio is above 1. Where random regions cause no drop there
        is no ratio, and the check is passed where the interval of the difference is above 0. In both cases the
        difference must reach `EFFECT_FLOOR`: a drop of 1e-8 is no effect.
    """
    mean, by_chance = float(found.drop.mean()), float(found.random_drop.mean())
    low, high = interval(found.drop - found.random_drop.mean(axis=1))
    ratio = mean / by_chance if by_chance > NIL else None
    larger = bool(ratio > 1) if ratio is not None else bool(low > 0)
    return {
        "drop": mean,
        "random_drop": by_chance,
        "ratio": ratio,
        "difference": mean - by_chance,
        "difference_ci95": [low, high],
        "floor": EFFECT_FLOOR,
        "passed": larger and mean - by_chance >= EFFECT_FLOOR,
    }


def auc_figures(auc: np.ndarray, random_auc: np.ndarray, lower_is_better: bool) -> dict[str, Any]:
    """Compare the mean AUC of a deletion or insertion curve with that of random maps.

    Parameters
    ----------
    auc, random_auc : numpy.ndarray, (N,)
    lower_is_better : bool
        True for deletion.

    Returns
    -------
    dict
        ``passed`` where the interval of the paired gain is above 0, and its mean reaches `EFFECT_FLOOR`.
    """
    gain = random_auc - auc if lower_is_better else auc - random_auc
    low, high = interval(gain)
    return {
        "auc": float(auc.mean()),
        "random_auc": float(random_auc.mean()),
        "gain_ci95": [low, high],
        "floor": EFFECT_FLOOR,
        "passed": bool(low > 0 and gain.mean() >= EFFECT_FLOOR),
    }


def iter_check_cells(
    classifier: Classifier,
    crops: np.ndarray,
    heatmaps: np.ndarray,
    targets: np.ndarray,
    masks: np.ndarray | None = None,
    seed: int = 0,
) -> Steps[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Run the checks of the maps of single cells.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, h, w, 3), uint8
    heatmaps : numpy.ndarray, (N, h, w)
    targets : numpy.ndarray, (N,), int
    masks : numpy.ndarray, (N, h, w), bool, optional
        Of the cells.
    seed : int

    Yields
    ------
    Progress

    Returns
    -------
    figures : dict
        As a card holds them, without the randomisation check.
    per_cell : dict of numpy.ndarray, (N,)
        Columns of ``explanations.csv``; NaN where a map is all zero.
    """
    shown = heatmaps.reshape(len(heatmaps), -1).max(axis=1, initial=0) > 0
    names = [f"occlusion_{part}_{fill}" for fill in FILLS for part in ("drop", "random_drop")]
    columns = ["deletion_auc", "insertion_auc", *names]
    per_cell = {name: np.full(len(crops), np.nan) for name in columns}
    figures: dict[str, Any] = {"n": int(shown.sum()), "n_without_evidence": int((~shown).sum())}
    if masks is not None:
        per_cell["energy_in_cell"] = energy_in_cell(heatmaps, masks)
        area = np.where(np.isfinite(per_cell["energy_in_cell"]), masks.mean(axis=(1, 2)), np.nan)
        mean = _mean(per_cell["energy_in_cell"])
        if mean is not None:
            figures["energy_in_cell"] = {"mean": mean, "area_of_cell": _mean(area)}
    if not shown.any():
        return figures, per_cell
    crops, maps, targets = crops[shown], heatmaps[shown], targets[shown]
    by_random = random_maps(len(maps), maps.shape[1:], seed)
    total = 2 + len(FILLS)
    for i, (name, curve) in enumerate((("deletion", deletion_curve), ("insertion", insertion_curve))):
        yield Progress("check", i, total)
        auc = area_under(curve(classifier, crops, maps, targets))
        by_chance = area_under(curve(classifier, crops, by_random, targets))
        figures[name] = auc_figures(auc, by_chance, name == "deletion")
        per_cell[f"{name}_auc"][shown] = auc
    figures["occlusion"] = {}
    for i, fill in enumerate(FILLS):
        yield Progress("check", 2 + i, total)
        found = occlusion(classifier, crops, maps, targets, fill, seed=seed)
        figures["occlusion"][fill] = occlusion_figures(found)
        per_cell[f"occlusion_drop_{fill}"][shown] = found.drop
        per_cell[f"occlusion_random_drop_{fill}"][shown] = found.random_drop.mean(axis=1)
    return figures, per_cell


def check_model(
    classifier: Classifier,
    crops: np.ndarray,
    targets: np.ndarray,
    method: str,
    masks: Sequence[np.ndarray | None] | None = None,
    maps: np.ndarray | None = None,
    max_randomised: int = 32,
    seed: int = 0,
) -> Steps[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Run all checks of a model's maps: those of single cells, and the randomisation check.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    targets : numpy.ndarray, (N,), int
    method : str
    masks : sequence of numpy.ndarray, (side_px, side_px), bool, or None, optional
        Of the cells, where they are known.
    maps : numpy.ndarray, (N, side_px, side_px), optional
        The heatmaps, if they have been drawn already.
    max_randomised : int
        Largest number of crops for the randomisation check, taken evenly from all.
    seed : int

    Yields
    ------
    Progress

    Returns
    -------
    figures : dict
        As a card holds them, with ``state``.
    per_cell : dict of numpy.ndarray, (N,)
    """
    drawn = cam.heatmaps(classifier, crops, targets, method) if maps is None else maps
    known = None
    if masks is not None and any(mask is not None for mask in masks):
        none = np.zeros(drawn.shape[1:], bool)
        known = np.stack([none if mask is None else mask for mask in masks])
    figures, per_cell = yield from iter_check_cells(classifier, crops, drawn, targets, known, seed)
    some = np.unique(np.linspace(0, len(crops) - 1, min(max_randomised, len(crops))).astype(int))
    figures["randomisation"] = yield from iter_randomisation(
        classifier,
        crops[some],
        targets[some],
        lambda other, shown, asked: cam.heatmaps(other, shown, asked, method),
        seed=seed,
    )
    figures["layers"] = list(cam.reader(classifier).layers)
    figures["state"] = state_of(figures)
    return figures, per_cell


def _mean(values: np.ndarray) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None
