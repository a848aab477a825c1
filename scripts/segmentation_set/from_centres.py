"""Masks of red cells whose centres are known, and of the other cells of such fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.measure import regionprops
from skimage.segmentation import watershed

from . import LEUKOCYTE, PLATELET, RED_CELL
from .evidence import Evidence, measure, stain_threshold, without
from .leftover import nucleated, purple
from .shapes import disc, fill_cut_holes, tidy


@dataclass
class Field:
    """Cells of one field.

    Attributes
    ----------
    labels : (H, W) int32
        1..N.
    kinds : list of int
        Kind of each.
    annotated : list of bool
        Whether an annotator pointed at it.
    ignore : (H, W) bool
        Foreground that cannot be told.
    """

    labels: np.ndarray
    kinds: list[int]
    annotated: list[bool]
    ignore: np.ndarray


def foreground(evidence: Evidence, centres: np.ndarray, area: float) -> np.ndarray:
    """Half of the rise from the glass to the typical cell, with the pallor filled, (H, W) bool."""
    cut = stain_threshold(evidence.red, evidence.noise)
    sure = evidence.red > cut
    level = float(np.percentile(evidence.red[sure], 50)) if sure.any() else 0.3
    mask = evidence.red > max(0.42 * level, 3 * evidence.noise)
    mask = fill_cut_holes(mask, 0.3 * area)
    _fill_pallor(mask, centres, area)
    return ndimage.binary_opening(np.pad(mask, 4, mode="edge"), disc(2))[4:-4, 4:-4]


def _fill_pallor(mask: np.ndarray, centres: np.ndarray, area: float) -> None:
    """Fill, in place, the pale middles of red cells but not the glass between cells that touch all round."""
    reach = 0.55 * np.sqrt(area / np.pi)
    for blob in regionprops(ndimage.label(mask)[0]):
        holes = blob.image_filled & ~blob.image
        if not holes.any():
            continue
        y0, x0, _, _ = blob.bbox
        single = blob.area_filled < 2.0 * area and blob.area_filled > 0.85 * blob.area_convex
        view = mask[blob.slice]
        if single:
            view |= holes
            continue
        for hole in regionprops(ndimage.label(holes)[0]):
            row, column = hole.centroid
            near = len(centres) and np.hypot(*(centres - [column + x0, row + y0]).T).min() < reach
            convex = hole.solidity > (0.7 if near else 0.86)
            if hole.area < 0.06 * area or (hole.area < 0.5 * area and convex):
                view[hole.slice][hole.image] = True


def measured_diameter(mask: np.ndarray, centres: np.ndarray | None) -> np.ndarray:
    """Diameters, px, of cells that lie alone, with one centre each where centres are given, (K,) float."""
    labels = ndimage.label(mask)[0]
    height, width = mask.shape
    held = np.ones(labels.max() + 1, int)
    if centres is not None:
        x, y = np.clip(centres.round().astype(int), 0, [width - 1, height - 1]).T
        held = np.bincount(labels[y, x], minlength=labels.max() + 1)
    sizes = []
    for blob in regionprops(labels):
        y0, x0, y1, x1 = blob.bbox
        inside = y0 > 0 and x0 > 0 and y1 < height and x1 < width
        if held[blob.label] == 1 and inside and blob.solidity > 0.93:
            sizes.append(blob.equivalent_diameter_area)
    return np.array(sizes)


def _parted(depth: np.ndarray, one: np.ndarray, two: np.ndarray) -> bool:
    """Whether the way between two points of a mask passes a waist, so that they lie in two cells."""
    rows, columns = (np.linspace(one[k], two[k], 24).round().astype(int) for k in (0, 1))
    way = depth[rows, columns]
    waist = int(np.argmin(way[1:-1])) + 1
    return bool(way[waist] < 0.9 * min(way[: waist + 1].max(), way[waist:].max()))


def _markers(
    mask: np.ndarray, depth: np.ndarray, centres: np.ndarray, diameter: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Markers: centres, then peaks of depth beyond a waist from all of them. And the distance to the next."""
    height, width = mask.shape
    rounded = np.clip(centres[:, ::-1].round().astype(int), 0, [height - 1, width - 1])
    points = list(rounded)
    annotated = len(points)
    apart, deep = int(0.2 * diameter), 0.15 * diameter
    peaks = peak_local_max(depth, min_distance=apart, threshold_abs=deep, exclude_border=False)
    for peak in peaks:
        away = np.array([np.hypot(*(peak - p)) for p in points]) if points else np.zeros(0)
        near = np.flatnonzero(away < 1.4 * diameter)
        if mask[tuple(peak)] and all(
            away[i] > 0.3 * diameter and _parted(depth, peak, points[i]) for i in near
        ):
            points.append(peak)
    # Broad markers where an annotator pointed: a cell that lies on another has no peak of its own.
    seeds = np.zeros(mask.shape, np.int32)
    for i, (row, column) in enumerate(points):
        seeds[row, column] = i + 1
    if not points:
        return seeds, np.zeros(mask.shape), 0
    away, (rows, columns) = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    nearest = seeds[rows, columns]
    reach = np.where(nearest <= annotated, 0.22 * diameter, 1.5)
    markers = np.where(away <= reach, nearest, 0)
    return markers * mask, away, annotated


def instances(
    image: np.ndarray, centres: np.ndarray, drawn: np.ndarray, diameter: float
) -> tuple[Field, np.ndarray]:
    """Label a field of red cells from their centres.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB.
    centres : (M, 2) float
        ``x y`` of annotated red cells.
    drawn : (H, W) bool
        Burnt-in marks.
    diameter : float
        Typical red cell, px.

    Returns
    -------
    field : Field
        The cells.
    sizes : (K,) float
        Diameters of lone annotated cells, px.
    """
    unit = np.pi / 4 * diameter**2
    evidence = measure(without(image, drawn), outside=~ndimage.binary_dilation(drawn, iterations=3))
    mask = foreground(evidence, centres, unit)
    sizes = measured_diameter(mask, centres)
    lone = measured_diameter(mask, None)
    lone = lone[(lone > 0.6 * diameter) & (lone < 1.5 * diameter)]
    # All lone cells, since annotators of some fields pointed at fragments only.
    own = float(np.median(lone)) if len(lone) >= 5 else diameter
    depth = ndimage.distance_transform_edt(np.pad(mask, 20, mode="edge"))[20:-20, 20:-20]
    depth = ndimage.gaussian_filter(depth, 1.5)
    markers, away, annotated = _markers(mask, depth, centres, own)
    cells = watershed(away - depth, markers, mask=mask)
    typical = mask & ~ndimage.binary_dilation(drawn) & (cells <= annotated) & (cells > 0)
    stained = ndimage.binary_opening(purple(evidence, typical if typical.any() else mask), disc(1))
    field = Field(np.zeros(mask.shape, np.int32), [], [], np.zeros(mask.shape, bool))
    _take_nucleated(field, cells, stained, mask, evidence, centres, own)
    _take_red(field, cells, annotated, evidence, own)
    far = mask & (field.labels == 0)
    _take_small(field, far & (cells == 0) & ~field.ignore, evidence, _tint(evidence, typical), unit)
    far &= field.labels == 0
    field.ignore |= ndimage.binary_opening(far, disc(2))
    return field, sizes


def _add(field: Field, mask: np.ndarray, kind: int, annotated: bool) -> None:
    field.kinds.append(kind)
    field.annotated.append(annotated)
    field.labels[mask & (field.labels == 0)] = len(field.kinds)


def _take_nucleated(
    field: Field,
    cells: np.ndarray,
    stained: np.ndarray,
    mask: np.ndarray,
    evidence: Evidence,
    centres: np.ndarray,
    diameter: float,
) -> None:
    """Leukocytes and platelets, by their stain."""
    joined = ndimage.binary_closing(np.pad(stained, 6), disc(4))[6:-6, 6:-6]
    joined = ndimage.binary_fill_holes(joined)
    points = np.zeros(mask.shape, bool)
    height, width = mask.shape
    x, y = np.clip(centres.round().astype(int), 0, [width - 1, height - 1]).T
    points[y, x] = True
    for shape, window, kind in nucleated(joined, diameter):
        blob = np.zeros(mask.shape, bool)
        blob[window] = shape
        if (blob & points).any():
            continue  # an annotator called this a red cell
        around = ndimage.binary_dilation(blob, disc(3)) & ~blob
        if kind == PLATELET and mask[around].mean() > 0.75:
            continue  # a grain or a parasite inside a red cell
        if kind and not _purple_not_black(evidence, blob & stained):
            field.ignore |= ndimage.binary_dilation(blob, disc(1))
        elif kind == LEUKOCYTE:
            sizes, within = np.bincount(cells.ravel()), np.bincount(cells[blob], minlength=cells.max() + 1)
            owners = [o for o in range(len(centres) + 1, len(sizes)) if within[o] > 0.2 * sizes[o]]
            whole = tidy(blob | np.isin(cells, owners), 2)
            compact = regionprops(whole.astype(np.uint8))[0].solidity > 0.85
            if compact and whole.sum() < 7 * np.pi / 4 * diameter**2:
                _add(field, whole, kind, False)
            else:
                field.ignore |= whole  # a smear of stain
        elif kind:
            owner = int(np.bincount(cells[blob]).argmax())
            small = owner > 0 and (cells == owner).sum() < 0.28 * np.pi / 4 * diameter**2
            whole = blob | (cells == owner) if small else blob
            _add(field, tidy(ndimage.binary_dilation(whole), 1), kind, False)
        else:
            field.ignore |= ndimage.binary_dilation(blob, disc(1))


def _purple_not_black(evidence: Evidence, mask: np.ndarray) -> bool:
    """Whether a dark blob lets more blue than green pass, as stained nuclei do and dirt does not."""
    _, green, blue = np.median(evidence.density[mask], axis=0)
    return bool(blue < 0.8 * green and green < 2.2)


def _take_red(field: Field, cells: np.ndarray, annotated: int, evidence: Evidence, diameter: float) -> None:
    """Red cells: those pointed at, and clear single ones that nobody pointed at."""
    unit = np.pi / 4 * diameter**2
    height, width = cells.shape
    free = np.where(field.labels == 0, cells, 0)
    typical = (cells > 0) & (cells <= annotated) if annotated else cells > 0
    level = np.percentile(evidence.red[typical], 50) if typical.any() else 0.3
    tint = _tint(evidence, typical)
    for region in regionprops(free):
        known = region.label <= annotated
        y0, x0, y1, x1 = region.bbox
        cut = y0 == 0 or x0 == 0 or y1 == height or x1 == width
        size = region.area / unit
        usual = 0.5 * level < np.percentile(evidence.red[region.slice][region.image], 60) < 1.8 * level
        stout = region.axis_minor_length > 0.35 * region.axis_major_length or cut
        clear = usual and stout and region.solidity > 0.9 and (0.08 if cut else 0.3) < size < 2.0
        whole = np.zeros(cells.shape, bool)
        whole[region.slice] = region.image
        if not known and size > 0.7 and region.solidity > 0.88 and _nucleus_like(evidence, whole, tint):
            _add(field, tidy(whole, 2), LEUKOCYTE, False)
        elif size > (1.5 if known else 1.3) and region.solidity < (0.93 if known else 0.96):
            field.ignore |= whole  # two cells, one upon the other, that show no waist
        elif (known and 0.1 < size < 3.0) or (not known and clear):
            _add(field, tidy(whole, 1), RED_CELL, known)
        elif not known and not cut and _platelet_like(evidence, whole, tint, size):
            _add(field, ndimage.binary_dilation(whole), PLATELET, False)
        elif size > 0.03:
            field.ignore |= whole


def _nucleus_like(evidence: Evidence, mask: np.ndarray, tint: list[float]) -> bool:
    """Darker in green than the red cells, and bluer."""
    _, green, blue = np.median(evidence.density[mask], axis=0)
    return bool(1.15 * tint[1] < green < 2.2 and blue / green < tint[2] / max(tint[1], 0.02) - 0.12)


def _tint(evidence: Evidence, typical: np.ndarray) -> list[float]:
    """Usual density of the red cells per channel."""
    return [float(np.median(evidence.density[..., c][typical])) if typical.any() else 0.0 for c in range(3)]


def _take_small(field: Field, rest: np.ndarray, evidence: Evidence, tint: list[float], unit: float) -> None:
    """Platelets among blobs too small to have been taken for a red cell."""
    height, width = rest.shape
    for blob in regionprops(ndimage.label(rest)[0]):
        y0, x0, y1, x1 = blob.bbox
        whole = np.zeros(rest.shape, bool)
        whole[blob.slice] = blob.image
        inside = y0 > 0 and x0 > 0 and y1 < height and x1 < width
        if inside and blob.solidity > 0.85 and _platelet_like(evidence, whole, tint, blob.area / unit):
            _add(field, ndimage.binary_dilation(whole), PLATELET, False)


def _platelet_like(evidence: Evidence, mask: np.ndarray, tint: list[float], size: float) -> bool:
    """Small, and purple: it absorbs less blue than a red cell does, where dirt is grey."""
    if not 0.04 < size < 0.28:
        return False
    _, green, blue = np.median(evidence.density[mask], axis=0)
    return bool(green > 0.08 and blue / green < tint[2] / max(tint[1], 0.02) - 0.14)
