"""How much of a field or of a slide lies in heaps of red cells that are too thick to count."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import cv2
import numpy as np

from napari_leukocls.measurement.absolute import AREA
from napari_leukocls.types import Finding, Segmentation

#: Name of the finding, and key of `SlideResult.run`: percent of the area.
HEAPS = "red_cell_heaps"


def heap_share(segmentation: Segmentation) -> float:
    """Measure the share of a field that lies in heaps.

    Parameters
    ----------
    segmentation : Segmentation

    Returns
    -------
    float
        Percent.
    """
    height, width = segmentation.labels.shape
    return 100 * sum((heap_area(heap) for heap in segmentation.heaps), 0.0) / max(float(height * width), 1.0)


def heap_within(heap: np.ndarray, box: tuple[float, float, float, float]) -> np.ndarray:
    """Cut the part of a heap that lies in a box (Sutherland and Hodgman 1974).

    Parameters
    ----------
    heap : numpy.ndarray, (M, 2)
        Corners x, y.
    box : tuple of float
        y0, x0, y1, x1.

    Returns
    -------
    numpy.ndarray, (K, 2), float32
        Empty where nothing of it lies in the box.
    """
    y0, x0, y1, x1 = box
    part = np.asarray(heap, float).reshape(-1, 2)
    for axis, limit, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
        part = _beyond(part, axis, limit, sign)
    return part.astype(np.float32)


def heap_area(heap: np.ndarray) -> float:
    """Measure the area of a heap.

    Parameters
    ----------
    heap : numpy.ndarray, (M, 2)
        Corners x, y; none for no heap.

    Returns
    -------
    float
        Square pixels.
    """
    return float(cv2.contourArea(np.asarray(heap, np.float32))) if len(heap) else 0.0


def mean_share(runs: Iterable[Mapping[str, Any]]) -> float:
    """Join the shares that fields have in their ``run.json``.

    Parameters
    ----------
    runs : iterable of mapping

    Returns
    -------
    float
        Percent of the area of all fields together; of fields of unknown area, the mean.
    """
    known = [(float(run.get(HEAPS) or 0), float(run.get(AREA) or 0)) for run in runs]
    if not known:
        return 0.0
    shares, counted = np.array(known).T
    # The area that was counted is what the heaps have left.
    areas = counted / np.maximum(1 - shares / 100, 1e-6)
    return float(np.average(shares, weights=areas if areas.sum() > 0 else None))


def heap_findings(share: float) -> list[Finding]:
    """Describe the heaps.

    Parameters
    ----------
    share : float
        Percent of the area.

    Returns
    -------
    list of Finding
        Empty where there are none.
    """
    if share <= 0:
        return []
    text = f"Heaps of red cells too thick to count: {share:.1f} % of the area, which belongs to no density."
    return [Finding(HEAPS, share, math.nan, math.nan, "%", "certain", "too thick to count", text)]


def heap_warnings(share: float) -> list[str]:
    """Warn of heaps.

    Parameters
    ----------
    share : float
        Percent of the area.

    Returns
    -------
    list of str
        Empty where there are none.
    """
    if share <= 0:
        return []
    return [f"{share:.1f} % of the area lies in heaps of red cells too thick to count: they are in no count."]


def is_heap_warning(warning: str) -> bool:
    """Whether a warning is one of `heap_warnings`.

    Parameters
    ----------
    warning : str

    Returns
    -------
    bool
    """
    return "heaps of red cells too thick to count" in warning


def _beyond(points: np.ndarray, axis: int, limit: float, sign: int) -> np.ndarray:
    """The part of a polygon on one side of a line along an axis, corners in order."""
    if not len(points):
        return points
    after = np.roll(points, -1, axis=0)
    depth, next_depth = (sign * (side[:, axis] - limit) for side in (points, after))
    crosses = (depth > 0) != (next_depth > 0)
    share = np.where(crosses, depth / np.where(crosses, depth - next_depth, 1), 0)[:, None]
    # Each corner that is kept, and behind it the point where its edge crosses the line.
    both = np.stack([points, points + share * (after - points)], axis=1).reshape(-1, 2)
    array: np.ndarray = both[np.stack([depth > 0, crosses], axis=1).ravel()]
    return array
