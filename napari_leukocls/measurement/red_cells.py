"""Size, form, pallor, colour and inclusions of every red cell, measured in one pass over the pixels."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from napari_leukocls.progress import beside, stop_here

if TYPE_CHECKING:
    from napari_leukocls.measurement.cells import CellGeometry

#: Columns of the measurements, in the order of ``red_cells.csv``.
MEASURES = (
    *("diameter_um", "area_um2", "perimeter_um", "circularity", "axis_ratio", "solidity"),
    *("pallor", "pallor_diameter", "density", "blueness", "edge_um", "inclusions"),
    *("measured", "left_out"),
)
#: Why a cell is not measured.
EDGE, HEAP, COVERED = "edge", "several cells", "touches or lies under others"
FRAGMENT, UNCLEAR = "too small", "not clear of glass"
#: A cell that has another one on this share of its outline, within this distance (micrometres), has not its own shape.
MOST_CONTACT = 0.1
CONTACT_UM = 0.4
#: A label this much wider than the typical red cell of the field, or less solid than this, is more than one cell.
HEAP_DIAMETER = 1.6
HEAP_SOLIDITY = 0.86
#: A label this much smaller than the typical red cell is a grain or a piece that was cut off, not a fragment of a cell.
LEAST_DIAMETER = 0.3
#: Depth in a cell (0 at the outline, 1 in the middle) of the rim and of the middle that are compared.
RIM = (0.12, 0.42)
MIDDLE = 0.7
#: The pale middle is where the density is below this share of the rim's.
PALE = 0.75
#: Least density (natural logarithm, green) of a rim that stands out from the glass.
LEAST_DENSITY = 0.05
#: An inclusion is denser in red light than its cell's rim by this much (natural logarithm), and at most this wide.
INCLUSION_DENSITY = 0.3
INCLUSION_UM = (0.25, 1.6)
_BY_STAIN = ("pallor", "pallor_diameter", "density", "blueness", "edge_um")
#: Colours of glass are not taken to be darker than this (0-255).
_DARKEST_GLASS = 20.0


def measure_red_cells(
    pixels: np.ndarray,
    labels: np.ndarray,
    geometry: CellGeometry,
    glass: Sequence[float],
    um_per_px: float,
    chosen: np.ndarray | None = None,
    typical_um: float | None = None,
    covered: Collection[int] = (),
) -> pd.DataFrame:
    """Measure red cells.

    Parameters
    ----------
    pixels : numpy.ndarray, (H, W, 3), uint8
        Under even light.
    labels : numpy.ndarray, (H, W), int32
        0 is the background. All cells, so that a cell that touches another is not taken to touch glass.
    geometry : CellGeometry
        Of all cells.
    glass : sequence of 3 float
        RGB of empty glass, 0-255; nan where there is none: then density, pallor and colour are nan.
    um_per_px : float
        Micrometres per pixel.
    chosen : numpy.ndarray, (N,), bool, optional
        The red cells among the cells of `geometry`; by default all.
    typical_um : float, optional
        Diameter of a typical red cell of the field, by which heaps are known; by default the median of those measured.
    covered : collection of int
        Cells that others cover in part: what is seen of them is not their shape.

    Returns
    -------
    pandas.DataFrame
        ``cell_id`` and `MEASURES`, one row a red cell: ``diameter_um`` of the circle of equal area;
        ``circularity`` 4 pi area / perimeter^2 (at most 1); ``axis_ratio`` of the ellipse with the same second
        moments, long to short; ``solidity``, share of the convex hull that the cell fills; ``pallor``, 1 less the
        middle's density over the rim's; ``pallor_diameter``, diameter of the pale middle over that of the cell;
        ``density`` (natural logarithm, green light) of the whole cell; ``blueness``, its density in red light over
        that in green; ``edge_um``, width of its edge, which grows out of focus; ``inclusions``, small dark grains
        within it; ``measured``, whether sizes and shapes hold, and
        ``left_out``, why not.

    References
    ----------
    .. [1] Bacus JW. Quantitative morphological analysis of red blood cells. Blood Cells 6, 295-314 (1980).
       (area, pallor and density by image analysis)
    """
    rows = np.arange(len(geometry.ids)) if chosen is None else np.flatnonzero(chosen)
    ids = geometry.ids[rows]
    area = geometry.area[rows].astype(float)
    work = beside(_forms, labels, geometry, rows, max(1, round(CONTACT_UM / um_per_px)))
    stain = _stain(pixels, labels, glass, um_per_px, ids)
    perimeter, axis_ratio, solidity, touching = work.result()
    table = pd.DataFrame({"cell_id": ids.astype(np.int64)})
    table["diameter_um"] = 2 * np.sqrt(area / np.pi) * um_per_px
    table["area_um2"] = area * um_per_px**2
    table["perimeter_um"] = perimeter * um_per_px
    table["circularity"] = np.minimum(4 * np.pi * area / np.maximum(perimeter, 1e-9) ** 2, 1.0)
    table["axis_ratio"] = axis_ratio
    table["solidity"] = solidity
    for name, values in stain.items():
        table[name] = values
    near = touching > MOST_CONTACT
    near |= np.isin(ids, list(covered))
    table["left_out"] = _left_out(table, geometry.touches_border[rows], near, typical_um)
    table["measured"] = table["left_out"] == ""
    return table[["cell_id", *MEASURES]]


def _forms(
    labels: np.ndarray, geometry: CellGeometry, rows: np.ndarray, near_px: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Perimeter, axis ratio, solidity and contact of the cells in the rows of a geometry."""
    ids = geometry.ids[rows]
    return (
        perimeters(labels)[ids],
        axis_ratios(labels, geometry)[rows],
        _solidity(labels, ids, geometry.bbox[rows]),
        contact(labels, near_px)[ids],
    )


def perimeters(labels: np.ndarray) -> np.ndarray:
    """Measure the perimeter of every label by Crofton's formula with four directions.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int

    Returns
    -------
    numpy.ndarray, (max label + 1,)
        Pixels. As `skimage.measure.perimeter_crofton` gives it for each label alone, for all at once.
    """
    padded = np.pad(np.asarray(labels), 1)
    inside = padded[1:-1, 1:-1]
    height, width = inside.shape
    crossings = np.zeros(int(inside.max(initial=0)) + 1)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        spacing = 1.0 if dy == 0 or dx == 0 else np.sqrt(0.5)
        for sign in (1, -1):
            y, x = 1 + sign * dy, 1 + sign * dx
            beside = padded[y : y + height, x : x + width]
            crossings += spacing * np.bincount(inside[beside != inside], minlength=len(crossings))
    crossings *= np.pi / 8
    crossings[0] = 0
    return crossings


def contact(labels: np.ndarray, distance_px: int = 1) -> np.ndarray:
    """Measure which share of the outline of every label has another label beside it.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int
    distance_px : int
        How far beyond the outline another label may begin.

    Returns
    -------
    numpy.ndarray, (max label + 1,)
        0 to 1, by lines in four directions.
    """
    reach = distance_px + 1
    padded = np.pad(np.asarray(labels), reach)
    height, width = np.shape(labels)
    inside = padded[reach:-reach, reach:-reach]
    top = int(inside.max(initial=0)) + 1
    crossings, beside_others = np.zeros(top), np.zeros(top)

    def shifted(dy: int, dx: int) -> np.ndarray:
        return padded[reach + dy : reach + dy + height, reach + dx : reach + dx + width]

    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        at_edge = shifted(dy, dx) != inside
        own = inside[at_edge]
        other = np.zeros(len(own), bool)
        stop_here()
        for step in range(1, distance_px + 1):
            beside = shifted(step * dy, step * dx)[at_edge]
            other |= (beside != 0) & (beside != own)
        crossings += np.bincount(own, minlength=top)
        beside_others += np.bincount(own[other], minlength=top)
    beside_others[0] = 0
    return np.asarray(beside_others / np.maximum(crossings, 1))


def axis_ratios(labels: np.ndarray, geometry: CellGeometry) -> np.ndarray:
    """Measure how long cells are for their width.

    Parameters
    ----------
    labels : numpy.ndarray, (H, W), int
    geometry : CellGeometry

    Returns
    -------
    numpy.ndarray, (N,)
        Long over short axis of the ellipse with the same second moments, as
        `skimage.measure.regionprops` gives its axes.
    """
    y, x = np.nonzero(labels)
    ids = np.asarray(labels)[y, x]
    index = np.searchsorted(geometry.ids, ids)
    dy, dx = y - geometry.centroid[index, 0], x - geometry.centroid[index, 1]
    n = len(geometry.ids)
    yy, xx, xy = (
        np.bincount(index, weights=w, minlength=n) / geometry.area for w in (dy * dy, dx * dx, dx * dy)
    )
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + xy**2)
    return np.asarray(np.sqrt((middle + half) / np.maximum(middle - half, 1e-9)))


def _solidity(labels: np.ndarray, ids: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Share of the convex hull that a cell fills, by its outer contours."""
    found = np.ones(len(ids))
    for i, (cell, (y0, x0, y1, x1)) in enumerate(zip(ids, boxes, strict=True)):
        stop_here()
        mask = (labels[y0:y1, x0:x1] == cell).astype(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        hull = cv2.contourArea(cv2.convexHull(np.concatenate(contours)))
        if hull > 0:
            found[i] = min(1.0, sum(cv2.contourArea(part) for part in contours) / hull)
    return found


def _depth(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each pixel from the outline of its own cell, and the largest of each label."""
    padded = np.pad(labels, 1, mode="edge")
    inside = labels > 0
    for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
        inside = inside & (padded[dy : dy + labels.shape[0], dx : dx + labels.shape[1]] == labels)
    depth = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
    most = np.zeros(int(labels.max(initial=0)) + 1, np.float32)
    np.maximum.at(most, labels[inside], depth[inside])
    return depth, most


def _stain(
    pixels: np.ndarray, labels: np.ndarray, glass: Sequence[float], um_per_px: float, ids: np.ndarray
) -> dict[str, np.ndarray]:
    """Pallor, density, colour and inclusions of the cells `ids`."""
    colour = np.asarray(glass, float)
    if not np.isfinite(colour).all():
        return {
            **{name: np.full(len(ids), np.nan) for name in _BY_STAIN},
            "inclusions": np.zeros(len(ids), np.int64),
        }
    levels = np.arange(256)[:, None] / np.maximum(colour, _DARKEST_GLASS)
    table = -np.log(np.clip(levels, 1 / 255, 1.2)).astype(np.float32)
    depth, most = _depth(labels)
    where = np.flatnonzero(labels)
    own = labels.ravel()[where]
    rgb = pixels.reshape(-1, 3)[where]
    red, green = table[rgb[:, 0], 0], table[rgb[:, 1], 1]
    share = depth.ravel()[where] / np.maximum(most[own], 1.0)
    top = len(most)

    def mean(values: np.ndarray, part: np.ndarray) -> np.ndarray:
        count = np.bincount(own[part], minlength=top)
        total = np.bincount(own[part], weights=values[part], minlength=top)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    stop_here()
    everywhere = np.ones(len(where), bool)
    in_rim = (share >= RIM[0]) & (share <= RIM[1])
    rim_green, rim_red = mean(green, in_rim), mean(red, in_rim)
    density = mean(green, everywhere)
    middle = mean(green, share >= MIDDLE)
    pale = (share > RIM[1]) & (green < PALE * rim_green[own])
    sizes = np.maximum(np.bincount(own, minlength=top), 1)
    stands_out = rim_green >= LEAST_DENSITY
    dark = red > rim_red[own] + INCLUSION_DENSITY
    stop_here()
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "pallor": np.clip(1 - middle / rim_green, 0, 1),
            "pallor_diameter": np.sqrt(np.bincount(own[pale], minlength=top) / sizes),
            "density": density,
            "blueness": np.clip(mean(red, everywhere) / density, -5, 5),
            "edge_um": rim_green
            / np.maximum(_steepness(table[:, 1][pixels[..., 1]], labels), 1e-6)
            * um_per_px,
        }
    for name in ("pallor", "pallor_diameter", "blueness", "edge_um"):
        found[name] = np.where(stands_out, found[name], np.nan)
    found["inclusions"] = _grains(labels, where[dark & (share > RIM[0])], um_per_px)
    return {name: values[ids] for name, values in found.items()}


def _steepness(density: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How fast the density rises at the edge of each label towards the glass, per pixel; nan if it meets no glass."""
    slope = np.hypot(cv2.Sobel(density, cv2.CV_32F, 1, 0), cv2.Sobel(density, cv2.CV_32F, 0, 1)) / 8
    steepest = cv2.dilate(slope, np.ones((3, 3), np.uint8))
    beside_glass = cv2.erode((labels > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) == 0
    edge = (labels > 0) & beside_glass
    top = int(labels.max(initial=0)) + 1
    count = np.bincount(labels[edge], minlength=top)
    total = np.bincount(labels[edge], weights=steepest[edge], minlength=top)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


def _grains(labels: np.ndarray, dark: np.ndarray, um_per_px: float) -> np.ndarray:
    """Number of dark grains of the size of an inclusion in each label."""
    mask = np.zeros(labels.size, np.uint8)
    mask[dark] = 1
    parts, _, found, middle = cv2.connectedComponentsWithStats(mask.reshape(labels.shape), connectivity=8)
    top = int(labels.max(initial=0)) + 1
    width = 2 * np.sqrt(found[1:, cv2.CC_STAT_AREA] / np.pi) * um_per_px
    fits = (width >= INCLUSION_UM[0]) & (width <= INCLUSION_UM[1]) & (found[1:, cv2.CC_STAT_AREA] >= 2)
    at = middle[1:][fits].round().astype(int)
    owner = labels[at[:, 1], at[:, 0]]
    return np.bincount(owner, minlength=top)


def _left_out(
    table: pd.DataFrame, touches_border: np.ndarray, near_others: np.ndarray, typical_um: float | None
) -> np.ndarray:
    """Why each cell is not measured; "" for those that are."""
    diameter = table["diameter_um"].to_numpy()
    whole = diameter[~touches_border & ~near_others & (table["solidity"].to_numpy() >= HEAP_SOLIDITY)]
    typical = typical_um or (float(np.median(whole)) if len(whole) else np.nan)
    reason = np.full(len(table), "", dtype=object)
    with np.errstate(invalid="ignore"):
        unclear = table["density"].notna() & table["pallor"].isna()
        heap = (diameter > HEAP_DIAMETER * typical) | (table["solidity"].to_numpy() < HEAP_SOLIDITY)
        reason[diameter < LEAST_DIAMETER * typical] = FRAGMENT
    reason[unclear.to_numpy()] = UNCLEAR
    reason[near_others] = COVERED
    reason[heap] = HEAP
    reason[touches_border] = EDGE
    return reason


__all__ = [
    "COVERED",
    "EDGE",
    "FRAGMENT",
    "HEAP",
    "MEASURES",
    "UNCLEAR",
    "axis_ratios",
    "measure_red_cells",
    "perimeters",
]
