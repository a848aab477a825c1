"""Class probabilities of a model while parts of a crop are hidden or shown in the order of a heatmap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from scipy.integrate import trapezoid

from napari_leukocls.device import with_less_memory

if TYPE_CHECKING:
    from napari_leukocls.classification.classifier import Classifier

#: Steps of a deletion or insertion curve.
STEPS = 10
#: Share of a crop's area that the occlusion check hides.
HIDDEN_SHARE = 0.1
#: Random regions that the hidden region is compared with.
DRAWS = 10
#: Mean drop of the probability below which hiding a random region counts as no effect.
NIL = 1e-3
#: Standard deviation of the blur from which insertion starts, as a share of the crop's side.
BLUR = 0.08
#: Colours with which the occlusion check hides a region.
FILLS = ("black", "mean_colour")


def class_probabilities(
    classifier: Classifier, crops: np.ndarray, targets: np.ndarray, batch_size: int = 32
) -> np.ndarray:
    """Calibrated probability of the given class of each crop, without mirror images or a second opinion.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, side_px, side_px, 3), uint8
    targets : numpy.ndarray, (N,), int
        Column of the class that is explained, of each crop.
    batch_size : int

    Returns
    -------
    numpy.ndarray, (N,)
    """
    out: list[np.ndarray] = []
    start, size, device = 0, batch_size, classifier.device

    @torch.inference_mode()
    def run(size: int, device: str) -> tuple[np.ndarray, int, str]:
        images = classifier.tensor(crops[start : start + size]).to(device)
        logits = classifier.fast_network(device)(images).float() / classifier.card.temperature
        return logits.softmax(1).cpu().numpy(), size, device

    while start < len(crops):
        shares, size, device = with_less_memory(run, size, device, lambda text: None)
        out.append(shares[np.arange(len(shares)), targets[start : start + len(shares)]])
        start += len(shares)
    return np.concatenate(out) if out else np.zeros(0, np.float32)


def random_maps(count: int, side: tuple[int, int], seed: int) -> np.ndarray:
    """Draw smooth random maps, with which the maps of a model are compared.

    Parameters
    ----------
    count : int
    side : (int, int)
        Height and width.
    seed : int

    Returns
    -------
    numpy.ndarray, (count, h, w), float32
    """
    random = np.random.default_rng(seed)
    coarse = random.random((count, 8, 8), dtype=np.float32)
    return np.stack([cv2.resize(one, side[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse])


def _ranks(heatmaps: np.ndarray, seed: int = 0) -> np.ndarray:
    """Rank of every pixel within its map (N, h, w), 0 for the largest.

    Equal values, as where there is no evidence, are ranked by a random smooth map. Ranked row by row, the top of
    the crop would count as evidence.
    """
    flat = -heatmaps.reshape(len(heatmaps), -1)
    by_chance = random_maps(len(heatmaps), heatmaps.shape[1:], seed + 1).reshape(flat.shape)
    ranks = np.empty(flat.shape, np.int64)
    for row, values, other in zip(ranks, flat, by_chance, strict=True):
        row[np.lexsort((other, values))] = np.arange(len(row))
    return ranks.reshape(heatmaps.shape)


def _blurred(crops: np.ndarray) -> np.ndarray:
    width = max(0.8, BLUR * crops.shape[1])
    return np.stack([cv2.GaussianBlur(crop, (0, 0), width) for crop in crops])


def _mean_colour(crops: np.ndarray) -> np.ndarray:
    """Each crop's mean colour, (N, 1, 1, 3)."""
    return np.asarray(crops.mean(axis=(1, 2), keepdims=True).round().astype(np.uint8))


def deletion_curve(
    classifier: Classifier, crops: np.ndarray, heatmaps: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Class probability while the largest values of the map are replaced by the crop's mean colour.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, h, w, 3), uint8
    heatmaps : numpy.ndarray, (N, h, w)
    targets : numpy.ndarray, (N,), int

    Returns
    -------
    numpy.ndarray, (N, `STEPS` + 1)
        From the whole crop to a crop without any pixel of it.

    References
    ----------
    Petsiuk, Das, Saenko (2018). RISE: randomized input sampling for explanation of black-box models. BMVC.
    """
    return _curve(classifier, crops, np.broadcast_to(_mean_colour(crops), crops.shape), heatmaps, targets)


def insertion_curve(
    classifier: Classifier, crops: np.ndarray, heatmaps: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """Class probability while the pixels with the largest values of the map are inserted into the blurred crop.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, h, w, 3), uint8
    heatmaps : numpy.ndarray, (N, h, w)
    targets : numpy.ndarray, (N,), int
        Column of the class that is explained, of each crop.

    Returns
    -------
    numpy.ndarray, (N, `STEPS` + 1)
        From the blurred crop to the whole crop.

    References
    ----------
    Petsiuk, Das, Saenko (2018). RISE: randomized input sampling for explanation of black-box models. BMVC.
    """
    return _curve(classifier, _blurred(crops), crops, heatmaps, targets)


def _curve(
    classifier: Classifier, first: np.ndarray, last: np.ndarray, heatmaps: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    ranks = _ranks(heatmaps)
    size = heatmaps[0].size if len(heatmaps) else 0
    curve = np.empty((len(first), STEPS + 1), np.float32)
    for step in range(STEPS + 1):
        changed = ranks < round(size * step / STEPS)
        curve[:, step] = class_probabilities(classifier, np.where(changed[..., None], last, first), targets)
    return curve


def area_under(curve: np.ndarray) -> np.ndarray:
    """Area under curves whose steps go from 0 to 1.

    Parameters
    ----------
    curve : numpy.ndarray, (N, k)

    Returns
    -------
    numpy.ndarray, (N,)
    """
    return np.asarray(trapezoid(curve, dx=1 / (curve.shape[1] - 1), axis=1))


@dataclass(frozen=True)
class Occlusion:
    """Drops of the class probability when a region is hidden.

    Attributes
    ----------
    drop : numpy.ndarray, (N,)
        With the region of the map's largest values hidden.
    random_drop : numpy.ndarray, (N, draws)
        With random regions hidden.
    """

    drop: np.ndarray
    random_drop: np.ndarray


def occlusion(
    classifier: Classifier,
    crops: np.ndarray,
    heatmaps: np.ndarray,
    targets: np.ndarray,
    fill: str = "black",
    draws: int = DRAWS,
    seed: int = 0,
) -> Occlusion:
    """Hide the region of each map's largest values, and regions of the same shape at random positions.

    Parameters
    ----------
    classifier : Classifier
    crops : numpy.ndarray, (N, h, w, 3), uint8
    heatmaps : numpy.ndarray, (N, h, w)
    targets : numpy.ndarray, (N,), int
    fill : {"black", "mean_colour"}
    draws : int
        Random regions for each crop.
    seed : int

    Returns
    -------
    Occlusion
    """
    random = np.random.default_rng(seed)
    ranks = _ranks(heatmaps)
    top = ranks < round(HIDDEN_SHARE * heatmaps[0].size)
    colour = np.uint8(0) if fill == "black" else _mean_colour(crops)
    whole = class_probabilities(classifier, crops, targets)

    def drop(regions: np.ndarray) -> np.ndarray:
        hidden = np.where(regions[..., None], colour, crops)
        return np.asarray(whole - class_probabilities(classifier, hidden, targets))

    moved = []
    for _ in range(draws):
        shifts = random.integers(0, heatmaps.shape[1:], (len(crops), 2))
        moved.append(
            drop(np.stack([np.roll(one, tuple(s), (0, 1)) for one, s in zip(top, shifts, strict=True)]))
        )
    return Occlusion(drop(top), np.stack(moved, axis=1))


def hidden_regions(crops: np.ndarray, heatmaps: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Black out the region of each map's largest values, and a region of the same shape at a random place.

    Parameters
    ----------
    crops : numpy.ndarray, (N, h, w, 3), uint8
    heatmaps : numpy.ndarray, (N, h, w)
    seed : int

    Returns
    -------
    important, other : numpy.ndarray, (N, h, w, 3), uint8
    """
    random = np.random.default_rng(seed)
    top = _ranks(heatmaps) < round(HIDDEN_SHARE * heatmaps[0].size)
    shifts = random.integers(0, heatmaps.shape[1:], (len(crops), 2))
    moved = np.stack([np.roll(one, tuple(shift), (0, 1)) for one, shift in zip(top, shifts, strict=True)])
    black = np.uint8(0)
    return np.where(top[..., None], black, crops), np.where(moved[..., None], black, crops)
