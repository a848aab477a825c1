"""How strongly a smear is stained, read from its red cells."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

#: How sure the class map must be of a cell that is measured.
SURE_RED = 0.7
#: Fewest pixels inside red cells that say something.
FEWEST_PX = 400
#: Pixels that are looked at, at most.
MOST_PX = 200_000
#: A nucleus holds back this much more red light than the red cells, at this percentile of its cell.
NUCLEUS, NUCLEUS_PERCENTILE = 1.3, 85


def red_cell_density(
    pixels: np.ndarray, labels: np.ndarray, red: np.ndarray, glass: Sequence[float]
) -> tuple[float, float, float] | None:
    """Measure the optical density of a smear's red cells.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
    red : numpy.ndarray, (N,)
        Probability that label i + 1 is a red cell.
    glass : sequence of 3 float
        RGB of empty glass; nan where there is none.

    Returns
    -------
    tuple of float or None
        Median of -log(pixel / glass) in each channel, inside the cells, off their rims; None where there is
        too little to measure.
    """
    if not np.isfinite(np.asarray(glass, float)).all() or not (red >= SURE_RED).any():
        return None
    sure = np.concatenate([[False], red >= SURE_RED])
    inside = cv2.erode(sure[labels].astype(np.uint8), np.ones((3, 3), np.uint8), iterations=2)
    rows = np.flatnonzero(inside)
    if len(rows) < FEWEST_PX:
        return None
    rows = rows[:: max(1, len(rows) // MOST_PX)]
    transmission = pixels.reshape(-1, 3)[rows] / np.maximum(np.asarray(glass, float), 20.0)
    density = np.median(-np.log(np.clip(transmission, 1 / 255, 1.2)), axis=0)
    return (float(density[0]), float(density[1]), float(density[2]))


def without_nucleus(
    pixels: np.ndarray,
    labels: np.ndarray,
    unsure: np.ndarray,
    glass: Sequence[float],
    density: Sequence[float] | None,
) -> np.ndarray:
    """Find cells in which nothing is darker than a red cell: nuclei alone hold back more red light.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
    unsure : numpy.ndarray, (N,), bool
        Which of the cells are looked at.
    glass : sequence of 3 float
        RGB of empty glass.
    density : sequence of 3 float, or None
        Of the red cells, as `red_cell_density` measures it.

    Returns
    -------
    numpy.ndarray, (N,), bool
        None of them where the red cells were not measured.
    """
    found = np.zeros(len(unsure), bool)
    if density is None or not unsure.any():
        return found
    boxes = ndimage.find_objects(labels)
    for index in np.flatnonzero(unsure):
        where = boxes[index]
        if where is None:
            continue
        red = pixels[where][..., 0][labels[where] == index + 1].astype(float)
        darkest = np.percentile(-np.log(np.maximum(red, 1) / max(glass[0], 20.0)), NUCLEUS_PERCENTILE)
        found[index] = darkest < NUCLEUS * density[0]
    return found
