"""Heaps that are too thick to count: stained like red cells, as large as one, and no cell told apart in them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

#: Diameter of a red cell at which heaps are looked for, pixels.
LOOK_DIAMETER_PX = 12.0
#: Density from which a pixel belongs to a heap; that of the picture's red cells is 1.
DENSE = 0.6
#: Narrower parts than this belong to the rim of a cell, in red-cell diameters.
NARROW = 0.35
#: Area of a heap, in units of a red cell: less is a piece of one that was overlooked.
LEAST_AREA = 0.7


def thick_heaps(
    pixels: np.ndarray,
    labels: np.ndarray,
    glass: Sequence[float],
    red_cell_density: Sequence[float] | None,
    diameter_px: float,
) -> tuple[np.ndarray, ...]:
    """Outline the heaps of a field in which no cells were told apart.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
    labels : numpy.ndarray, (H, W), int32
        0 is what belongs to no cell.
    glass : sequence of 3 float
        RGB of empty glass.
    red_cell_density : sequence of 3 float, or None
        Median optical density of the red cells.
    diameter_px : float
        Of a red cell.

    Returns
    -------
    tuple of numpy.ndarray, (M, 2), float32
        x, y in pixels, where the corner of the first pixel is (0, 0). None at all where glass or red cells are
        unknown.
    """
    if red_cell_density is None or not np.isfinite(np.asarray(glass, float)).all():
        return ()
    density = np.asarray(red_cell_density, float)
    if density.sum() <= 0:
        return ()
    height, width = labels.shape
    factor = min(1.0, LOOK_DIAMETER_PX / diameter_px)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA)
    taken = cv2.resize((labels > 0).astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.1
    share = stain_share(small, glass, density)
    left = ((share >= DENSE) & ~taken).astype(np.uint8)
    side = max(3, 2 * round(NARROW * diameter_px * factor / 2) + 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    wide = cv2.morphologyEx(left, cv2.MORPH_OPEN, disc)
    contours, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    least = LEAST_AREA * np.pi / 4 * (diameter_px * factor) ** 2
    back = np.array([width / size[0], height / size[1]])
    return tuple(
        ((contour[:, 0] + 0.5) * back).astype(np.float32)
        for contour in contours
        if len(contour) >= 3 and cv2.contourArea(contour) >= least
    )


def stain_share(pixels: np.ndarray, glass: Sequence[float], red_cell_density: np.ndarray) -> np.ndarray:
    """Measure how densely pixels are stained, in units of the red cells.

    Parameters
    ----------
    pixels : numpy.ndarray, (h, w, 3), uint8
    glass : sequence of 3 float
    red_cell_density : numpy.ndarray, (3,)

    Returns
    -------
    numpy.ndarray, (h, w), float32
        0 is glass, and 1 the median red cell.
    """
    clear = np.maximum(np.asarray(glass, np.float32), 20)
    density = -np.log(np.clip(pixels.astype(np.float32) / clear, 1 / 255, 1.2)).mean(axis=2)
    array: np.ndarray = density / max(float(np.mean(red_cell_density)), 1e-3)
    return array
