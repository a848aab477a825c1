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
    return 100 * sum((_area(heap) for heap in segmentation.heaps), 0.0) / max(float(height * width), 1.0)


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


def _area(heap: np.ndarray) -> float:
    return float(cv2.contourArea(np.asarray(heap, np.float32)))
