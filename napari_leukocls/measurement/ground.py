"""What is no cell: in a smear it is glass, all of it as bright as the brightest parts of the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

#: Side that a picture is reduced to, pixels.
SMALL_SIDE = 512
#: What is darker than the brightest parts by more than this is no glass: natural optical density, mean of the channels.
GLASS_DENSITY = 0.3
#: Fewest pixels of what is no cell, at that side, of which anything is said.
FEWEST_PX = 200


def bright_ground(pixels: np.ndarray, labels: np.ndarray, heaps: Sequence[np.ndarray] = ()) -> float:
    """Measure how much of what is no cell is as bright as glass.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        RGB, under even light.
    labels : numpy.ndarray, (H, W), int
        Outlined cells.
    heaps : sequence of numpy.ndarray, (K, 2)
        Heaps too thick to count: x, y in pixels.

    Returns
    -------
    float
        0-1; nan where cells leave too little of the picture free.
    """
    height, width = labels.shape
    factor = min(1.0, SMALL_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    cells: np.ndarray = (labels > 0).astype(np.uint8)
    for outline in heaps:
        cv2.fillPoly(cells, [np.round(outline).astype(np.int32)], 1)
    cells = cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST)
    free = cv2.dilate(cells, np.ones((3, 3), np.uint8)) == 0
    if free.sum() < FEWEST_PX:
        return math.nan
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    level = np.log(np.maximum(cv2.GaussianBlur(small, (0, 0), 0.8).astype(np.float32), 1)).mean(axis=2)
    return float((level[free] > np.percentile(level, 98) - GLASS_DENSITY).mean())
