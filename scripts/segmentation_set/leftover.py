"""What to call foreground that nobody annotated."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.measure import regionprops

from . import LEUKOCYTE, PLATELET, RED_CELL
from .evidence import Evidence


def red_level(evidence: Evidence, red_cells: np.ndarray) -> float:
    """Typical density of the red cells of a field, or of its foreground where none is known."""
    if red_cells.sum() > 200:
        return float(np.percentile(evidence.red[red_cells], 60))
    dark = evidence.red[evidence.red > 6 * evidence.noise]
    return float(np.percentile(dark, 40)) if dark.size else 0.3


def purple(evidence: Evidence, red_cells: np.ndarray) -> np.ndarray:
    """Pixels stained like a nucleus: much more red light absorbed than by a red cell, (H, W) bool."""
    absorbed = evidence.density[..., 0]
    if red_cells.sum() < 200:
        return (absorbed > 0.45) & (evidence.density[..., 1] > 0.6)
    own = absorbed[red_cells]
    centre = float(np.median(own))
    spread = float(1.4826 * np.median(np.abs(own - centre))) + 0.02
    green = float(np.percentile(evidence.density[..., 1][red_cells], 75))
    return (absorbed > centre + 4 * spread) & (evidence.density[..., 1] > green)


def name_blobs(
    rest: np.ndarray, evidence: Evidence, red_cells: np.ndarray, diameter: float, *, at_edge_only: bool
) -> list[tuple[np.ndarray, tuple[slice, slice], int]]:
    """Kind of each unannotated blob: a kind, or 0 where it cannot be told.

    Returns
    -------
    list of (mask, window, kind)
        Mask of the blob inside its window.
    """
    height, width = rest.shape
    unit = np.pi / 4 * diameter**2
    level = red_level(evidence, red_cells)
    found = []
    for blob in regionprops(ndimage.label(rest)[0]):
        window = blob.slice
        y0, x0, y1, x1 = blob.bbox
        cut = y0 == 0 or x0 == 0 or y1 == height or x1 == width
        values = evidence.red[window][blob.image]
        typical = 0.55 * level < np.percentile(values, 60) < 1.6 * level
        size = blob.area / unit
        single = blob.solidity > 0.92 and (0.12 if cut else 0.4) < size < 1.5
        slender = blob.axis_minor_length > 0.3 * blob.axis_major_length
        kind = RED_CELL if typical and single and slender and (cut or not at_edge_only) else 0
        found.append((blob.image, window, kind))
    return found


def nucleated(stained: np.ndarray, diameter: float) -> list[tuple[np.ndarray, tuple[slice, slice], int]]:
    """Leukocytes and platelets among purple blobs, by their size (um by way of the red cell's 7.5)."""
    um = diameter / 7.5
    found = []
    for blob in regionprops(ndimage.label(stained)[0]):
        across = blob.equivalent_diameter_area / um
        if across > 6 and blob.solidity > 0.75:
            kind = LEUKOCYTE
        elif 1.5 <= across <= 4 and blob.solidity > 0.8:
            kind = PLATELET
        else:
            kind = 0
        found.append((blob.image, blob.slice, kind))
    return found
