"""How strongly a smear is stained, read from its red cells."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

#: How sure the class map must be of a cell that is measured.
SURE_RED = 0.7
#: Fewest pixels inside red cells that say something.
FEWEST_PX = 400
#: Pixels that are looked at, at most.
MOST_PX = 200_000


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
