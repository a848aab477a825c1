"""Whole outlines of red cells that others cover in part.

A label image has one owner a pixel, so that of two cells that lie on each other one has a dent, or each a straight
edge. The free part of a cell's outline, where it borders on glass, says how the rest goes on: an ellipse is fitted to
it, and the cell is extended by what of the ellipse lies on its neighbours. It is an estimate of what cannot be seen.
"""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from napari_leukocls.progress import stop_here
from napari_leukocls.segmentation.splitting import Ellipse, drawn_ellipse, outline_of

#: Diameter of a red cell at which outlines are fitted, pixels: finer ones gain nothing.
FIT_DIAMETER_PX = 40.0
#: Share of the outline that must border on glass before the rest can be estimated; above the second nothing is covered.
FREE = (0.3, 0.97)
#: Area of the whole cell, in units of what is seen of it.
MOST_HIDDEN = 1.7
#: ... and in units of the disc of a red cell's diameter.
LARGEST = 1.6
#: Share of the whole cell that must be covered before it gets an outline of its own.
LEAST_COVERED = 0.04
#: Mean distance of the free outline from the ellipse, in red-cell diameters.
MOST_MISFIT = 0.03
_FEWEST_POINTS = 12
_PAD = 12


def whole_outlines(labels: np.ndarray, red: np.ndarray, diameter_px: float) -> dict[int, np.ndarray]:
    """Estimate the whole outline of each red cell that lies under or over another one.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int32
        Cells 1..N.
    red : numpy.ndarray, (N,), bool
        Which of them are red cells.
    diameter_px : float
        Of a red cell, pixels.

    Returns
    -------
    dict of int to numpy.ndarray, (M, 2), float32
        By label: x, y in pixels of `labels`, where the corner of the first pixel is (0, 0).
    """
    factor = min(1.0, FIT_DIAMETER_PX / diameter_px)
    height, width = labels.shape
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = labels if factor == 1 else _reduced(labels, size)
    back = np.array([width / size[0], height / size[1]])
    is_red = np.concatenate([[False], red])
    found = {}
    for index, where in enumerate(ndimage.find_objects(small)):
        stop_here()
        if where is None or not red[index]:
            continue
        window = tuple(
            slice(max(0, part.start - _PAD), min(side, part.stop + _PAD))
            for part, side in zip(where, small.shape, strict=True)
        )
        part = small[window]
        whole = _whole_cell(part, index + 1, is_red[part], window, small.shape, diameter_px * factor)
        if whole is not None:
            corner = np.array([window[1].start, window[0].start])
            found[index + 1] = ((_polygon(whole) + corner) * back).astype(np.float32)
    return found


def _reduced(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Labels at the centres of the pixels of a smaller picture of `size` (width, height)."""
    rows = ((np.arange(size[1]) + 0.5) * labels.shape[0] / size[1]).astype(np.intp)
    columns = ((np.arange(size[0]) + 0.5) * labels.shape[1] / size[0]).astype(np.intp)
    array: np.ndarray = labels[rows[:, None], columns]
    return array


def _whole_cell(
    part: np.ndarray,
    label: int,
    red: np.ndarray,
    window: tuple[slice, ...],
    shape: tuple[int, ...],
    diameter: float,
) -> np.ndarray | None:
    """Mask of the whole cell in its window; None where it is not covered, or the rest cannot be estimated."""
    mask = part == label
    others = red & ~mask
    if not others.any():
        return None
    contour = outline_of(mask)
    free = _borders_on_glass(contour, part, label, window, shape)
    if free.sum() < _FEWEST_POINTS or not FREE[0] <= free.mean() <= FREE[1]:
        return None
    arc = contour[free]
    ellipse: Ellipse = cv2.fitEllipseDirect(arc)
    if not _believable(ellipse, arc, diameter):
        return None
    drawn = drawn_ellipse(ellipse, part.shape)
    whole: np.ndarray = mask | (drawn & others)
    hidden = int(whole.sum()) - int(mask.sum())
    if hidden < LEAST_COVERED * whole.sum() or whole.sum() > MOST_HIDDEN * mask.sum():
        return None
    return whole


def _borders_on_glass(
    contour: np.ndarray, part: np.ndarray, label: int, window: tuple[slice, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """Whether each point of an outline lies off other cells and off the edge of the picture, (N,) bool."""
    other = ((part != label) & (part > 0)).astype(np.uint8)
    near = cv2.dilate(other, np.ones((5, 5), np.uint8)) > 0
    x, y = contour[:, 0].T
    at_y, at_x = y + window[0].start, x + window[1].start
    edge = (at_y <= 1) | (at_x <= 1) | (at_y >= shape[0] - 2) | (at_x >= shape[1] - 2)
    array: np.ndarray = ~near[y, x] & ~edge
    return array


def _believable(ellipse: Ellipse, arc: np.ndarray, diameter: float) -> bool:
    """Whether an ellipse is as large as a red cell may be, and runs along the free outline."""
    (x, y), (width, height), angle = ellipse
    if not np.isfinite([x, y, width, height]).all() or min(width, height) < 0.4 * diameter:
        return False
    if width * height > LARGEST * diameter**2 or max(width, height) > 2 * min(width, height):
        return False
    turn = np.deg2rad(angle)
    dx, dy = arc[:, 0, 0] - x, arc[:, 0, 1] - y
    along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    # From 1, in units of the half axes; close to the ellipse this is about the distance in pixels.
    off = np.abs(np.hypot(along / (width / 2), across / (height / 2)) - 1) * np.sqrt(width * height) / 2
    return float(off.mean()) <= MOST_MISFIT * diameter


def _polygon(mask: np.ndarray) -> np.ndarray:
    """Outline of a mask, (N, 2) x, y: it runs through the edges of the pixels."""
    # The middles of the pixels at the edge, moved outwards by half a pixel.
    contour = outline_of(mask)[:, 0].astype(float)
    middle = contour.mean(axis=0)
    away = contour - middle
    length = np.maximum(np.hypot(*away.T), 1e-6)[:, None]
    array: np.ndarray = contour + 0.5 + 0.5 * away / length
    return array
