"""Outlines of cells as polygons, in pixels whose corners are at whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.draw import polygon2mask
from skimage.measure import find_contours

if TYPE_CHECKING:
    from napari_leukocls.types import FieldResult

#: Side of a block of labels that are not in memory, pixels, and how many are kept (1 MB each).
_SIDE, _KEPT = 512, 128


def cell_masks(result: FieldResult) -> Iterator[tuple[dict[str, Any], tuple[int, int], np.ndarray]]:
    """Cut the mask of each cell, in the order of the table; of a covered cell with its hidden part.

    Only the box of a cell is read from the labels, which may be larger than memory.

    Parameters
    ----------
    result : FieldResult

    Yields
    ------
    row : dict
        Of the table of cells.
    corner : tuple of int
        y, x of the mask's upper left pixel.
    mask : numpy.ndarray, (h, w), bool
    """
    labels = result.labels if isinstance(result.labels, np.ndarray) else _Blocks(result.labels)
    whole = result.segmentation.outlines
    for row in result.cells.to_dict("records"):
        y0, x0, y1, x1 = (int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1"))
        mask = labels[y0:y1, x0:x1] == int(row["cell_id"])
        if mask.any() and int(row["cell_id"]) in whole:
            yield row, *_with_hidden_part(mask, (y0, x0), whole[int(row["cell_id"])], result.labels.shape)
        elif mask.any():
            yield row, (y0, x0), mask


def polygon_mask(
    polygon: np.ndarray, shape: tuple[int, ...], box: tuple[int, int, int, int] | None = None
) -> tuple[tuple[int, int], np.ndarray]:
    """Draw a polygon: the pixels whose centres it holds.

    Parameters
    ----------
    polygon : numpy.ndarray, (N, 2)
        x, y; the corner of the first pixel is (0, 0).
    shape : tuple of int
        (H, W) of the image.
    box : tuple of int, optional
        y0, x0, y1, x1 of pixels that the mask shall also reach.

    Returns
    -------
    corner : tuple of int
        y, x of the mask's upper left pixel.
    mask : numpy.ndarray, (h, w), bool
    """
    low, high = np.floor(polygon.min(axis=0)).astype(int), np.ceil(polygon.max(axis=0)).astype(int)
    y0, x0, y1, x1 = (int(low[1]), int(low[0]), int(high[1]), int(high[0]))
    if box is not None:
        y0, x0, y1, x1 = min(y0, box[0]), min(x0, box[1]), max(y1, box[2]), max(x1, box[3])
    y0, x0, y1, x1 = max(0, y0), max(0, x0), min(shape[0], y1), min(shape[1], x1)
    corners = polygon[:, ::-1] - (y0 + 0.5, x0 + 0.5)
    return (y0, x0), polygon2mask((max(0, y1 - y0), max(0, x1 - x0)), corners)


def _with_hidden_part(
    mask: np.ndarray, corner: tuple[int, int], polygon: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, int], np.ndarray]:
    """A cell's mask with the part of it that lies under other cells."""
    box = (*corner, corner[0] + mask.shape[0], corner[1] + mask.shape[1])
    (y0, x0), whole = polygon_mask(polygon, shape, box)
    seen = whole[corner[0] - y0 : box[2] - y0, corner[1] - x0 : box[3] - x0]
    seen |= mask
    return (y0, x0), whole


class _Blocks:
    """Labels on disk, with the blocks that were read last kept: cells that follow each other lie together."""

    def __init__(self, labels: Any) -> None:
        self._labels = labels
        self._read = lru_cache(maxsize=_KEPT)(self._from_disk)

    def _from_disk(self, row: int, column: int) -> np.ndarray:
        y, x = row * _SIDE, column * _SIDE
        return np.asarray(self._labels[y : y + _SIDE, x : x + _SIDE])

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        (y0, y1), (x0, x1) = ((part.start, part.stop) for part in where)
        rows = range(y0 // _SIDE, (y1 - 1) // _SIDE + 1)
        columns = range(x0 // _SIDE, (x1 - 1) // _SIDE + 1)
        blocks = np.block([[self._read(row, column) for column in columns] for row in rows])
        top, left = y0 - rows[0] * _SIDE, x0 - columns[0] * _SIDE
        return blocks[top : top + y1 - y0, left : left + x1 - x0]


def rings(mask: np.ndarray, corner: tuple[int, int]) -> list[np.ndarray]:
    """Trace the closed outlines of a mask and of its holes.

    They run half-way between the centres of the pixels inside and outside. A mask that is drawn again from them, by the
    centres of the pixels, is the same mask.

    Parameters
    ----------
    mask : numpy.ndarray, (h, w), bool
    corner : tuple of int
        y, x of the mask's upper left pixel in the image.

    Returns
    -------
    list of numpy.ndarray, (N, 2)
        x, y; the last point is the first.
    """
    padded = np.pad(mask, 1).astype(np.float32)
    # Pixels that touch by a corner alone are held to be one part, as a labelled cell is one.
    found = find_contours(padded, 0.5, fully_connected="high")
    # The centre of the first pixel is at (0.5, 0.5); one pixel of padding is taken off again.
    shift = np.array([corner[0] - 0.5, corner[1] - 0.5])
    return [_corners(ring + shift)[:, ::-1] for ring in found]


def _corners(ring: np.ndarray) -> np.ndarray:
    """A closed ring without the points that lie on a straight line between their neighbours."""
    steps = np.diff(ring, axis=0)
    before = np.roll(steps, 1, axis=0)
    turns = steps[:, 0] * before[:, 1] != steps[:, 1] * before[:, 0]
    kept = ring[:-1][turns]
    return np.concatenate([kept, kept[:1]])
