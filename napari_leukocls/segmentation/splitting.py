"""Red cells that lie on each other and were outlined as one: told apart by two ellipses.

The outline of two cells has notches where one outline meets the other. The arcs between two notches belong to one cell
each, so that an ellipse is fitted to each arc. Two cells are taken where both ellipses have the size of the picture's
own red cells, and together fit the outline better than one ellipse does.

References
----------
.. [1] Kothari, S., Chaudry, Q. & Wang, M. (2009). Automated cell counting and cluster segmentation using concavity
   detection and ellipse fitting techniques. IEEE International Symposium on Biomedical Imaging, 795-798.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from scipy import ndimage

from napari_leukocls.progress import stop_here
from napari_leukocls.segmentation.compact_net import NETWORK_DIAMETER_PX

#: An ellipse as OpenCV has it: centre (x, y), both axes, angle in degrees of the first axis.
Ellipse = tuple[Sequence[float], Sequence[float], float]

#: A mask smaller than this, in units of a red cell of the picture, is no two cells.
LEAST_AREA = 1.12
#: Depth of a notch, pixels at the network's scale.
NOTCH_PX = 1.2
#: How well two ellipses fit (intersection over union), and by how much better than one ellipse.
LEAST_FIT, GAIN = 0.85, 0.02
#: A smooth mask longer than this, in units of the red cells' long axis, may be two cells without a notch.
LONG = 1.35
#: Axes of a cell, in units of those of the picture's red cells.
SHORT_AXIS, LONGEST, MOST_OBLONG = (0.55, 1.35), 1.5, 1.75
#: Share of a red cell that each of the two has for itself.
OWN = 0.15
#: Share of the outline that each arc has.
LEAST_ARC = 0.2
#: Fewest single, whole red cells of a picture that say how large they are.
FEWEST_SINGLE = 4
#: Least share of its convex hull that a single cell fills.
SINGLE_SOLID = 0.93
_PAD = 4
_FEWEST_POINTS = 8
_MOST_NOTCHES = 4


@dataclass(frozen=True)
class RedCellSize:
    """The single red cells of a picture: median area (pixels) and axes (pixels)."""

    area: float
    long_axis: float
    short_axis: float


#: Of the network's scale, where a picture has too few single red cells.
USUAL = RedCellSize(np.pi / 4 * NETWORK_DIAMETER_PX**2, 1.07 * NETWORK_DIAMETER_PX, NETWORK_DIAMETER_PX)


def split_merged(labels: np.ndarray, red: np.ndarray) -> np.ndarray:
    """Tell red cells apart that lie on each other.

    Parameters
    ----------
    labels : numpy.ndarray, (h, w), int32
        Cells 1..N at the network's scale.
    red : numpy.ndarray, (N,), bool
        Which of them are red cells.

    Returns
    -------
    numpy.ndarray, (h, w), int32
        Of two cells, one keeps the number, and the other gets one from N + 1 on. Each pixel belongs to the cell whose
        middle is nearer, in units of its axes.
    """
    boxes = ndimage.find_objects(labels)
    size = red_cell_size(labels, red, boxes)
    result, number = labels, int(labels.max(initial=0))
    for index, where in enumerate(boxes):
        stop_here()
        if where is None or not red[index]:
            continue
        mask = labels[where] == index + 1
        if mask.sum() < LEAST_AREA * size.area:
            continue
        pair = two_cells(mask, size)
        if pair is None:
            continue
        y, x = np.nonzero(mask)
        other = _distance(pair[1], y, x) < _distance(pair[0], y, x)
        if min(other.sum(), (~other).sum()) < OWN * size.area:
            continue
        if result is labels:
            result = labels.copy()
        number += 1
        result[where][y[other], x[other]] = number
    return result


def red_cell_size(
    labels: np.ndarray, red: np.ndarray, boxes: list[tuple[slice, ...] | None] | None = None
) -> RedCellSize:
    """Measure the single red cells of a picture.

    Parameters
    ----------
    labels : numpy.ndarray, (h, w), int32
    red : numpy.ndarray, (N,), bool
    boxes : list, optional
        Of `scipy.ndimage.find_objects`.

    Returns
    -------
    RedCellSize
        `USUAL` where there are fewer than four.
    """
    found = []
    for index, where in enumerate(ndimage.find_objects(labels) if boxes is None else boxes):
        stop_here()
        if where is None or not red[index] or _at_edge(where, labels.shape):
            continue
        mask = labels[where] == index + 1
        contour = outline_of(mask)
        hull = cv2.contourArea(cv2.convexHull(contour))
        if len(contour) >= _FEWEST_POINTS and cv2.contourArea(contour) >= SINGLE_SOLID * hull > 0:
            axes = cv2.fitEllipse(contour)[1]
            found.append((float(mask.sum()), max(axes), min(axes)))
    if len(found) < FEWEST_SINGLE:
        return USUAL
    area, long_axis, short_axis = np.median(found, axis=0)
    return RedCellSize(float(area), float(long_axis), float(short_axis))


def two_cells(mask: np.ndarray, size: RedCellSize) -> tuple[Ellipse, Ellipse] | None:
    """Find two ellipses that together are a mask.

    Parameters
    ----------
    mask : numpy.ndarray, (h, w), bool
    size : RedCellSize

    Returns
    -------
    tuple of Ellipse, or None
        In pixels of `mask`; None where one ellipse fits nearly as well, or no two of the right size fit.
    """
    padded = np.pad(mask, _PAD)
    contour = outline_of(padded)
    if len(contour) < 3 * _FEWEST_POINTS:
        return None
    single = cv2.fitEllipse(contour)
    alone = _fit(padded, [single])
    best, pair = 0.0, None
    for cut in _cuts(contour, single, size):
        arcs = _arcs(contour, cut)
        if min(map(len, arcs)) < max(LEAST_ARC * len(contour), _FEWEST_POINTS):
            continue
        ellipses = [cv2.fitEllipseDirect(arc) for arc in arcs]
        if not all(_is_cell(ellipse, size) for ellipse in ellipses):
            continue
        fit = _fit(padded, ellipses)
        if fit > best:
            best, pair = fit, ellipses
    long = max(single[1]) > LONG * size.long_axis
    if pair is None or best < LEAST_FIT or (best < alone + GAIN and not (long and best > alone - 0.02)):
        return None
    first, second = (((x - _PAD, y - _PAD), axes, angle) for (x, y), axes, angle in pair)
    return first, second


def outline_of(mask: np.ndarray) -> np.ndarray:
    """Trace the longest outline of a mask.

    Parameters
    ----------
    mask : numpy.ndarray, (h, w), bool

    Returns
    -------
    numpy.ndarray, (N, 1, 2), int32
        x, y of the pixels on the edge, in order.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    longest: np.ndarray = max(contours, key=len)
    return longest


def drawn_ellipse(ellipse: Ellipse, shape: tuple[int, ...]) -> np.ndarray:
    """Draw an ellipse.

    Parameters
    ----------
    ellipse : Ellipse
    shape : tuple of int
        (h, w).

    Returns
    -------
    numpy.ndarray, (h, w), bool
    """
    drawn = np.zeros(shape, np.uint8)
    cv2.ellipse(drawn, ellipse, 1, -1)
    return drawn > 0


def _at_edge(where: tuple[slice, ...], shape: tuple[int, ...]) -> bool:
    return any(part.start == 0 or part.stop == side for part, side in zip(where, shape, strict=True))


def _cuts(contour: np.ndarray, single: Ellipse, size: RedCellSize) -> list[tuple[int, int]]:
    """Pairs of places on an outline at which two cells may meet."""
    points = contour[:, 0].astype(float)
    notches = _notches(contour)
    cuts = list(combinations(notches, 2))
    steps = np.arange(len(points))
    for notch in notches:
        # From a single notch straight across.
        along = (steps - notch) % len(points)
        far = np.hypot(*(points - points[notch]).T)
        far[np.minimum(along, len(points) - along) <= len(points) / 4] = np.inf
        cuts.append((notch, int(far.argmin())))
    if max(single[1]) > LONG * size.long_axis:
        angle = np.deg2rad(single[2]) + (np.pi / 2 if single[1][1] >= single[1][0] else 0)
        axis = np.array([np.cos(angle), np.sin(angle)])
        along_axis = np.abs((points - single[0]) @ axis)
        side = (points - single[0]) @ np.array([-axis[1], axis[0]]) > 0
        if side.any() and not side.all():
            upper, lower = np.flatnonzero(side), np.flatnonzero(~side)
            cuts.append((int(upper[along_axis[upper].argmin()]), int(lower[along_axis[lower].argmin()])))
    return [(min(cut), max(cut)) for cut in cuts]


def _notches(contour: np.ndarray) -> list[int]:
    """Deepest notches of an outline, deepest first."""
    try:
        defects = cv2.convexityDefects(contour, cv2.convexHull(contour, returnPoints=False))
    except cv2.error:
        return []  # an outline that crosses itself
    if defects is None:
        return []
    # OpenCV gives start, end, deepest point, and 256 times its depth.
    found = [(int(row[3]), int(row[2])) for row in defects.reshape(-1, 4) if row[3] >= 256 * NOTCH_PX]
    return [place for _, place in sorted(found, reverse=True)[:_MOST_NOTCHES]]


def _arcs(contour: np.ndarray, cut: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    first, second = cut
    return contour[first + 1 : second], np.concatenate([contour[second + 1 :], contour[:first]])


def _is_cell(ellipse: Ellipse, size: RedCellSize) -> bool:
    """Whether an ellipse has about the size of a red cell of the picture."""
    (x, y), axes, _ = ellipse
    long_axis, short_axis = max(axes), min(axes)
    if not np.isfinite([x, y, long_axis, short_axis]).all() or short_axis <= 0:
        return False
    oblong = max(MOST_OBLONG, 1.25 * size.long_axis / size.short_axis)
    low, high = (share * size.short_axis for share in SHORT_AXIS)
    return (
        low <= short_axis <= high
        and long_axis <= LONGEST * size.long_axis
        and long_axis <= oblong * short_axis
    )


def _fit(mask: np.ndarray, ellipses: list[Ellipse]) -> float:
    """Intersection over union of a mask and ellipses together; 0 where one adds nothing of its own."""
    drawn = [drawn_ellipse(ellipse, mask.shape) for ellipse in ellipses]
    together = np.any(drawn, axis=0)
    return float((together & mask).sum() / max(int((together | mask).sum()), 1))


def _distance(ellipse: Ellipse, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Distance of points from the middle of an ellipse, in units of its half axes."""
    (at_x, at_y), (width, height), angle = ellipse
    turn = np.deg2rad(angle)
    along = (x - at_x) * np.cos(turn) + (y - at_y) * np.sin(turn)
    across = (y - at_y) * np.cos(turn) - (x - at_x) * np.sin(turn)
    array: np.ndarray = np.hypot(along / (width / 2), across / (height / 2))
    return array
