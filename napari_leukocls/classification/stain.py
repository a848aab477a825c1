"""Stain normalisation: crops brought to the stain that a model was trained on.

A model's card holds the reference, so that training and analysis do the same. Glass is not changed, nor is a crop
with too little stain to measure.

References
----------
.. [1] Reinhard, E. et al. (2001). Color transfer between images. IEEE Comput. Graph. 21, 34-41.
.. [2] Macenko, M. et al. (2009). A method for normalizing histology slides for quantitative analysis. ISBI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from napari_leukocls.errors import ModelError

#: Optical density above which a pixel counts as stained.
MIN_DENSITY = 0.15
#: Fewest stained pixels with which the stain of a crop is measured.
MIN_PIXELS = 60
#: Percentiles that stand for the extremes (Macenko).
_EXTREMES = (1.0, 99.0)
#: Most crops that a reference is fitted on.
_FIT_CROPS = 300
METHODS = ("reinhard", "macenko")


def fit_reference(crops: np.ndarray, method: str) -> dict[str, Any]:
    """Measure the stain of training crops.

    Parameters
    ----------
    crops : numpy.ndarray, (N, h, w, 3), uint8
    method : {"reinhard", "macenko"}

    Returns
    -------
    dict
        For the card: the method, and the medians over crops of what it compares.

    Raises
    ------
    ModelError
        If no crop is stained.
    """
    measure = _measures()[method]
    some = crops[:: max(1, len(crops) // _FIT_CROPS)][:_FIT_CROPS]
    measured = [values for values in (measure(crop) for crop in some) if values is not None]
    if not measured:
        raise ModelError("no crop is stained: train without stain normalisation.")
    first = np.median([a for a, _ in measured], axis=0)
    second = np.median([b for _, b in measured], axis=0)
    if method == "macenko":
        first = first / np.linalg.norm(first, axis=0, keepdims=True)
        return {"method": method, "stains": first.tolist(), "most": second.tolist()}
    return {"method": method, "mean": first.tolist(), "std": second.tolist()}


def normalise(crops: np.ndarray, stain: Mapping[str, Any]) -> np.ndarray:
    """Bring crops to the stain of a reference.

    Parameters
    ----------
    crops : numpy.ndarray, (N, h, w, 3), uint8
    stain : mapping
        From `fit_reference`; empty leaves the crops as they are.

    Returns
    -------
    numpy.ndarray, (N, h, w, 3), uint8

    Raises
    ------
    ModelError
        If the reference is damaged or of an unknown method.
    """
    if not stain or len(crops) == 0:
        return crops
    try:
        if stain["method"] == "macenko":
            stains, most = np.asarray(stain["stains"], float), np.asarray(stain["most"], float)
            return np.stack([_macenko(crop, stains, most) for crop in crops])
        if stain["method"] == "reinhard":
            mean, std = np.asarray(stain["mean"], float), np.asarray(stain["std"], float)
            return np.stack([_reinhard(crop, mean, std) for crop in crops])
    except (KeyError, ValueError, IndexError) as error:
        raise ModelError(f"the card's stain reference is damaged ({error}): copy the model again.") from error
    raise ModelError(f"the card asks for the unknown stain normalisation {stain['method']!r}.")


def _measures() -> dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray] | None]]:
    return {"reinhard": _lab_statistics, "macenko": _stains_of}


def _density(crop: np.ndarray) -> np.ndarray:
    """Optical density (h * w, 3)."""
    return -np.log((crop.reshape(-1, 3).astype(np.float64) + 1) / 256)


def _stained(density: np.ndarray) -> np.ndarray:
    array: np.ndarray = density.mean(axis=1) > MIN_DENSITY
    return array


def _stain_share(density: np.ndarray) -> np.ndarray:
    """How much of the change each pixel takes: none on glass, all in the cell, fading so that no edge is drawn."""
    array: np.ndarray = np.clip((density.mean(axis=1) - 0.1) / MIN_DENSITY, 0, 1)
    return array


def _lab(crop: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)


def _lab_statistics(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean (3,) and standard deviation (3,) of the stained pixels in CIELAB."""
    there = _stained(_density(crop))
    if there.sum() < MIN_PIXELS:
        return None
    lab = _lab(crop)[there]
    return lab.mean(axis=0), np.maximum(lab.std(axis=0), 0.5)


def _reinhard(crop: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    mine = _lab_statistics(crop)
    if mine is None:
        return crop
    lab = _lab(crop)
    moved = (lab - mine[0]) * (std / mine[1]) + mean
    share = _stain_share(_density(crop))[:, None]
    mixed = (lab + (moved - lab) * share).astype(np.float32).reshape(crop.shape)
    array: np.ndarray = (np.clip(cv2.cvtColor(mixed, cv2.COLOR_LAB2RGB), 0, 1) * 255).round().astype(np.uint8)
    return array


def _stains_of(crop: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Colours of the two stains (3, 2), bluer first, and their largest amounts (2,)."""
    density = _density(crop)
    there = density[_stained(density)]
    if len(there) < MIN_PIXELS:
        return None
    _, vectors = np.linalg.eigh(np.cov(there.T))
    plane = vectors[:, [2, 1]]
    plane = plane * np.where(plane.sum(axis=0) < 0, -1, 1)
    along = there @ plane
    angles = np.arctan2(along[:, 1], along[:, 0])
    low, high = np.percentile(angles, _EXTREMES)
    ends = [plane @ np.array([np.cos(angle), np.sin(angle)]) for angle in (low, high)]
    # The dye that absorbs red the most, blue to the eye, comes first.
    ends.sort(key=lambda colour: -colour[0])
    stains = np.stack(ends, axis=1)
    if np.linalg.cond(stains) > 1e3:
        return None
    amounts = np.linalg.lstsq(stains, there.T, rcond=None)[0]
    return stains, np.maximum(np.percentile(amounts, _EXTREMES[1], axis=1), 0.05)


def _macenko(crop: np.ndarray, stains: np.ndarray, most: np.ndarray) -> np.ndarray:
    mine = _stains_of(crop)
    if mine is None:
        return crop
    density = _density(crop)
    amounts = np.linalg.lstsq(mine[0], density.T, rcond=None)[0]
    # What two stains do not explain is kept.
    rest = density.T - mine[0] @ amounts
    made = stains @ (amounts * (most / mine[1])[:, None]) + rest
    share = _stain_share(density)
    mixed = density.T + (made - density.T) * share
    array: np.ndarray = (
        np.clip(256 * np.exp(-mixed.T) - 1, 0, 255).round().astype(np.uint8).reshape(crop.shape)
    )
    return array
