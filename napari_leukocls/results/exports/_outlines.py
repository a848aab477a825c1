"""Outlines of cells as polygons, in pixels whose corners are at whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from skimage.measure import find_contours

if TYPE_CHECKING:
    from napari_leukocls.types import FieldResult

#: Side of a block of labels that are not in memory, pixels, and how many are kept (1 MB each).
_SIDE, _KEPT = 512, 128


def cell_masks(result: FieldResult) -> Iterator[tuple[dict[str, Any], tuple[int, int], np.ndarray]]:
    """Cut the mask of each cell, in the order of the table.

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
    for row in result.cells.to_dict("records"):
        y0, x0, y1, x1 = (int(row[f"bbox_{side}"]) for side in ("y0", "x0", "y1", "x1"))
        mask = labels[y0:y1, x0:x1] == int(row["cell_id"])
        if mask.any():
            yield row, (y0, x0), mask


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
    # The centre of the first pixel is at (0.5, 0.5); one pixel of padding goes off again.
    shift = np.array([corner[0] - 0.5, corner[1] - 0.5])
    return [_corners(ring + shift)[:, ::-1] for ring in found]


def _corners(ring: np.ndarray) -> np.ndarray:
    """A closed ring without the points that lie on a straight line between their neighbours."""
    steps = np.diff(ring, axis=0)
    before = np.roll(steps, 1, axis=0)
    turns = steps[:, 0] * before[:, 1] != steps[:, 1] * before[:, 0]
    kept = ring[:-1][turns]
    return np.concatenate([kept, kept[:1]])
