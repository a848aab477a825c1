"""Masks of cells whose boxes are known."""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from . import LEUKOCYTE, PLATELET, RED_CELL, STORED_DIAMETER
from .evidence import Evidence, measure
from .shapes import box_iou, box_of, disc, ellipse_distance, fill_cut_holes, overlap, tidy, whole_box

#: Below this share of the ellipse's area the evidence is not believed.
_LEAST = 0.55


def clean_boxes(
    boxes: np.ndarray, kinds: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, int]:
    """Drop boxes that repeat another cell, and call tiny leukocytes platelets.

    Parameters
    ----------
    boxes, kinds : (N, 4) float, (N,) int
        In stored pixels.
    size : (height, width)
        Of the stored image.

    Returns
    -------
    boxes, kinds, dropped
        What stays, and how many went.
    """
    height, width = size
    kinds = kinds.copy()
    extent = (boxes[:, 2:] - boxes[:, :2]).max(1) if len(boxes) else np.zeros(0)
    inside = (boxes[:, :2] > 1.5).all(1) & (boxes[:, 2:] < [width - 1.5, height - 1.5]).all(1)
    kinds[(kinds == LEUKOCYTE) & inside & (extent < 0.55 * STORED_DIAMETER)] = PLATELET
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shared = overlap(boxes, boxes)
    iou = box_iou(boxes, boxes)
    keep = np.ones(len(boxes), bool)
    for i in np.argsort(area):  # the smaller of two goes
        for j in np.flatnonzero(keep):
            if i == j or area[j] < area[i]:
                continue
            within = shared[i, j] / area[i]
            same = kinds[i] == kinds[j] and (iou[i, j] > 0.6 or within > 0.8)
            eaten = kinds[i] == RED_CELL and kinds[j] == LEUKOCYTE and within > 0.75
            if same or eaten:
                keep[i] = False
                break
    return boxes[keep], kinds[keep], int((~keep).sum())


def _red_mask(evidence: Evidence, distance: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Half of the rise from the glass to this cell's own rim, inside its box."""
    ring = (distance > 0.5) & (distance < 0.9)
    own = ring & alone
    values = evidence.red[own if own.sum() > 40 else ring]
    level = float(np.percentile(values, 60)) if values.size else 0.0
    return evidence.red > max(0.42 * level, 2.5 * evidence.noise)


def _leukocyte_mask(evidence: Evidence, distance: np.ndarray) -> np.ndarray:
    inside = evidence.stain[distance < 0.9]
    level = float(np.median(inside)) if inside.size else 0.0
    floor = float(np.percentile(evidence.stain[evidence.glass], 98)) if evidence.glass.any() else 0.0
    return evidence.stain > max(floor, min(0.22 * level, 0.1))  # pale cytoplasm is far from the nucleus


def _red_corner(
    evidence: Evidence, hue: np.ndarray, red_hue: float | None, distance: np.ndarray
) -> np.ndarray:
    """Pixels near a leukocyte's edge that have a red cell's colour, where the two colours differ enough."""
    nothing = np.zeros(hue.shape, bool)
    core = distance < 0.7
    if red_hue is None or not core.any():
        return nothing
    own = float(np.median(hue[core]))
    if red_hue - own < 0.15:
        return nothing
    red = (hue > 0.5 * (own + red_hue)) & (distance > 0.75) & (evidence.red > 5 * evidence.noise)
    return ndimage.binary_opening(red, disc(2))


def _platelet_mask(evidence: Evidence, distance: np.ndarray) -> np.ndarray:
    inside, around = evidence.stain[distance < 1], evidence.stain[(distance > 1.3) & (distance < 2)]
    if not inside.size or not around.size:
        return distance < 1
    peak, base = float(np.percentile(inside, 85)), float(np.median(around))
    if peak - base < 4 * evidence.noise:
        return distance < 1
    return evidence.stain > base + 0.35 * (peak - base)


def _candidates(
    evidence: Evidence, boxes: np.ndarray, kinds: np.ndarray, distance: np.ndarray, within: np.ndarray
) -> np.ndarray:
    """The mask of each cell as if it were alone, (N, H, W) bool."""
    crowd = (distance < 0.95).sum(0)
    density = np.clip(evidence.density, 0.01, None)
    hue = ndimage.median_filter(density[..., 2] / density[..., 1], 3)  # red cells absorb blue, nuclei less
    sure = ((distance < 0.9) & (distance > 0.4) & within)[kinds == RED_CELL].any(0) & (crowd == 1)
    red_hue = float(np.median(hue[sure])) if sure.sum() > 200 else None
    masks = np.zeros(distance.shape, bool)
    for i, kind in enumerate(kinds):
        if kind == RED_CELL:
            mask = _red_mask(evidence, distance[i], crowd <= 1)
        elif kind == LEUKOCYTE:
            mask = _leukocyte_mask(evidence, distance[i])
        else:
            mask = _platelet_mask(evidence, distance[i])
        reach = within[i] & (distance[i] < _reach(mask, within[i], kind))
        if kind == LEUKOCYTE:
            mask = mask | ((distance[i] < 0.85) & within[i])
            mask &= ~_red_corner(evidence, hue, red_hue, distance[i])
        mask = tidy(mask & reach, {PLATELET: 1, RED_CELL: 3, LEUKOCYTE: 4}[int(kind)])
        ellipse = (distance[i] < 1) & within[i]
        share = (mask & ellipse).sum() / max(ellipse.sum(), 1)
        if kind == LEUKOCYTE and (share < 0.65 or box_iou(boxes[i : i + 1], box_of(mask)[None])[0, 0] < 0.75):
            # Pale cytoplasm is hardly darker than the glass; the annotators' box knows better.
            mask = mask | ((distance[i] < 0.95) & within[i])
        elif share < (0.25 if kind == PLATELET else _LEAST):
            mask = ellipse
        elif kind != PLATELET:
            mask = mask | (ellipse & (distance[i] < 0.6))
        masks[i] = _to_box(mask, boxes[i], distance[i], within[i], kind)
    return masks


def _reach(mask: np.ndarray, within: np.ndarray, kind: int) -> float:
    """How far a cell may reach, in units of its ellipse: less where the stain goes on beyond the box."""
    if kind != RED_CELL:
        return 1.15
    rim = ndimage.binary_dilation(within) & ~within
    return 1.06 if rim.any() and (mask & rim).sum() > 0.2 * rim.sum() else 1.3


def _to_box(
    mask: np.ndarray, box: np.ndarray, distance: np.ndarray, within: np.ndarray, kind: int
) -> np.ndarray:
    """Widen a mask inside its box towards the box: annotators draw around the halo of a cell too."""
    enough, most = (0.8, 4) if kind == PLATELET else (0.86, 1)
    for _ in range(most):
        if not mask.any() or box_iou(box[None], box_of(mask)[None])[0, 0] >= enough:
            return mask
        mask = mask | (ndimage.binary_dilation(mask) & within & (distance < 1.1))
    if kind == PLATELET and box_iou(box[None], box_of(mask)[None])[0, 0] < 0.7:
        return (distance < 1) & within
    return mask


def instances(image: np.ndarray, boxes: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, Evidence]:
    """Label image of the boxed cells.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB, at the stored scale.
    boxes : (N, 4) float
        ``x0 y0 x1 y1`` in its pixels, cleaned.
    kinds : (N,) int
        Kind of each.

    Returns
    -------
    labels : (H, W) int32
        ``i + 1`` where box ``i`` is; some may have no pixel.
    evidence : Evidence
        Densities, for what is left over.
    """
    height, width = image.shape[:2]
    red_size = [np.sqrt(np.prod(b[2:] - b[:2])) for b, k in zip(boxes, kinds, strict=True) if k == RED_CELL]
    diameter = float(np.median(red_size)) if len(red_size) > 2 else STORED_DIAMETER
    if not len(boxes):
        return np.zeros((height, width), np.int32), measure(image)
    full = [
        whole_box(b, width, height, diameter) if k == RED_CELL else b
        for b, k in zip(boxes, kinds, strict=True)
    ]
    distance = np.stack([ellipse_distance(b, height, width) for b in full])
    within = np.zeros(distance.shape, bool)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        margin = 1.0
        rows = slice(max(0, round(y0 - margin)), round(y1 + margin))
        within[i, rows, max(0, round(x0 - margin)) : round(x1 + margin)] = True
    outside = np.logical_not(within.any(axis=0))
    reds = kinds == RED_CELL
    rings = ((distance > 0.55) & (distance < 0.85) & within)[reds].any(0) & ~within[~reds].any(0)
    evidence = measure(image, outside, rings)
    masks = _candidates(evidence, boxes, kinds, distance, within)
    return _part(evidence, masks, kinds, distance), evidence


def _part(evidence: Evidence, masks: np.ndarray, kinds: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Part overlapping candidates along edges, near where the ellipses are equally far."""
    scaled = distance.copy()
    scaled[kinds == LEUKOCYTE] *= 0.9
    scaled[kinds == PLATELET] *= 0.5
    scaled[~masks] = np.inf
    nearest = np.argmin(scaled, axis=0)
    least = np.take_along_axis(scaled, nearest[None], 0)[0]
    union = masks.any(0)
    owner = np.where(union, nearest + 1, 0).astype(np.int32)
    contested = masks.sum(0) > 1
    second = np.partition(scaled, 1, axis=0)[1] if len(masks) > 1 else np.full(least.shape, np.inf)
    lead = np.where(contested, second - np.where(contested, least, 0), 0)
    clear = union & (~contested | (least < 0.5) | (lead > 0.3))
    slope = sum(ndimage.gaussian_gradient_magnitude(evidence.density[..., c], 1.0) for c in range(3))
    top = float(np.percentile(slope[union], 95)) + 1e-6 if union.any() else 1.0
    edge = np.clip(slope / top, 0, 1) + 0.8 * np.where(np.isfinite(least), np.minimum(least, 1.5), 0)
    labels = watershed(edge, np.where(clear, owner, 0), mask=union).astype(np.int32)
    held = np.take_along_axis(masks, np.maximum(labels - 1, 0)[None], 0)[0]
    labels = np.where((labels > 0) & ~held, owner, labels)  # nobody grows beyond its own evidence
    return _finish(labels, kinds)


def _finish(labels: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    out = np.zeros_like(labels)
    order = np.argsort([{LEUKOCYTE: 1, RED_CELL: 0, PLATELET: 2}[int(k)] for k in kinds], kind="stable")
    for i in order:
        mask = labels == i + 1
        if not mask.any():
            continue
        mask = tidy(mask, 1)
        out[mask & ((out == 0) | (labels == i + 1))] = i + 1
    return out


def pale_leukocytes(labels: np.ndarray, kinds: np.ndarray, evidence: Evidence) -> list[int]:
    """Boxes of leukocytes, by their place in ``kinds``, that hold nothing darker than a red cell."""
    reds = np.isin(labels, np.flatnonzero(kinds == RED_CELL) + 1)
    if reds.sum() < 500:
        return []
    channels = evidence.density[..., :2].transpose(2, 0, 1)
    limit = np.percentile(channels[:, reds], 80, axis=1)
    found = []
    for i in np.flatnonzero(kinds == LEUKOCYTE):
        own = labels == i + 1
        if own.any() and (np.percentile(channels[:, own], 90, axis=1) < limit).all():
            found.append(int(i))
    return found


def leftovers(labels: np.ndarray, evidence: Evidence, level: float | None) -> np.ndarray:
    """Foreground that no annotation explains, without rims and specks: (H, W) bool.

    ``level`` is the density of the field's red cells; without it, everything that is not surely glass goes.
    """
    cells = labels > 0
    threshold = max(0.4 * level, 3.5 * evidence.noise) if level else max(0.04, 3 * evidence.noise)
    rest = np.maximum(evidence.red, 0.8 * evidence.stain) > threshold
    rest &= ~ndimage.binary_dilation(cells, disc(1))
    core = ndimage.binary_opening(np.pad(rest, 3, mode="edge"), disc(2))[3:-3, 3:-3]
    grown = ndimage.binary_dilation(core, disc(2)) & rest
    if level is None:
        grown = ndimage.binary_closing(np.pad(grown, 6, mode="edge"), disc(5))[6:-6, 6:-6]
    unit = np.pi / 4 * STORED_DIAMETER**2
    # Not the holes between cells that touch all round: they are glass, and the network should learn them.
    return fill_cut_holes(ndimage.binary_fill_holes(grown), 0.4 * unit) & ~cells
