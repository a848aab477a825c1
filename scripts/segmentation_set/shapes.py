"""Small operations on masks and boxes."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def disc(radius: int) -> np.ndarray:
    """Filled disc, (2 r + 1, 2 r + 1) bool."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return x * x + y * y <= radius * radius + radius * 0.5


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected piece of a mask."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    return labels == int(np.argmax(np.bincount(labels.ravel())[1:])) + 1


def tidy(mask: np.ndarray, radius: int = 2) -> np.ndarray:
    """Fill holes, drop threads thinner than ``2 * radius``, keep the largest piece."""
    x0, y0, x1, y1 = box_of(mask).astype(int)
    margin = radius + 2
    window = (slice(max(0, y0 - margin), y1 + margin), slice(max(0, x0 - margin), x1 + margin))
    # Inside the image the window's rim is empty, so that this repeats what the image's own edge cuts.
    padded = np.pad(mask[window], margin, mode="edge")
    padded = ndimage.binary_closing(padded, disc(1))
    padded = ndimage.binary_opening(ndimage.binary_fill_holes(padded), disc(radius))
    out = np.zeros_like(mask)
    out[window] = largest(ndimage.binary_fill_holes(padded[margin:-margin, margin:-margin]))
    return out


def fill_cut_holes(mask: np.ndarray, area: float) -> np.ndarray:
    """Fill holes up to ``area`` that the image's edge opens: the pale middle of a red cell cut in two."""
    labels = ndimage.label(~mask)[0]
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    sizes = np.bincount(labels.ravel())
    small = [i for i in np.unique(rim) if i and sizes[i] < area]
    out = mask.copy()
    for i in small:
        hole = labels == i
        y0, x0, y1, x1 = (int(v) for v in box_of(hole)[[1, 0, 3, 2]])
        if hole.sum() > 0.7 * (y1 - y0) * (x1 - x0):
            out |= hole
    return out


def box_of(mask: np.ndarray) -> np.ndarray:
    """Tight box ``x0 y0 x1 y1`` of a mask (upper bounds exclusive), (4,) float."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float)


def box_iou(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Overlap of boxes (N, 4) with boxes (M, 4): intersection over union, (N, M)."""
    shared = overlap(one, two)
    area = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (one, two)]
    return shared / np.maximum(area[0][:, None] + area[1][None] - shared, 1e-6)


def overlap(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """Shared area of boxes (N, 4) with boxes (M, 4), (N, M)."""
    low = np.maximum(one[:, None, :2], two[None, :, :2])
    high = np.minimum(one[:, None, 2:], two[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=2)


def whole_box(box: np.ndarray, width: int, height: int, diameter: float) -> np.ndarray:
    """The box that a cell cut by the image's edge would have, from the part that is seen."""
    x0, y0, x1, y1 = box
    sides = [x0 <= 1.5, y0 <= 1.5, x1 >= width - 1.5, y1 >= height - 1.5]
    if not any(sides):
        return box
    extent = [x1 - x0, y1 - y0]
    want = list(extent)
    for axis in (0, 1):
        cut, other = sides[axis] or sides[axis + 2], sides[1 - axis] or sides[3 - axis]
        if cut and other:
            want[axis] = max(extent[0], extent[1], diameter)
        elif cut:
            depth, chord = extent[axis], extent[1 - axis]
            if depth < chord / 2:  # a cap of a disc: its chord and depth give the disc
                round_size = min(depth + chord * chord / (4 * depth), 1.6 * max(diameter, chord))
                want = [max(round_size, extent[0]), max(round_size, extent[1])]
            else:
                want[axis] = max(depth, chord)
    grown = np.array(box, float)
    for axis in (0, 1):
        more = want[axis] - extent[axis]
        low, high = sides[axis], sides[axis + 2]
        share = 0.5 if low == high else 1.0 if low else 0.0
        grown[axis] -= more * share
        grown[axis + 2] += more * (1 - share)
    return grown


def ellipse_distance(box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Distance from a box's centre in units of its inscribed ellipse: 1 on the ellipse, (H, W) float32."""
    x0, y0, x1, y1 = box
    y, x = np.ogrid[0.5:height:1.0, 0.5:width:1.0]
    dx, dy = (2 * x - x0 - x1) / max(x1 - x0, 1), (2 * y - y0 - y1) / max(y1 - y0, 1)
    return np.sqrt(dx * dx + dy * dy).astype(np.float32)
