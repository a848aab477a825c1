"""Labels of a whole slide: painted tile by tile, kept compressed on disk, and written as a pyramidal TIFF."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tifffile import TiffFile, TiffWriter

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Side of a tile, pixels.
TILE = 512
#: Decoded tiles in memory: 48 MB.
_OPEN_TILES = 48
#: The coarsest level of a pyramid has a longer side of this at most, pixels.
_SMALLEST = 1024
#: Of zlib: fast, and labels compress well at any level.
_COMPRESSION = 3


class LabelStore:
    """A label image of any size, of which only a few tiles are in memory.

    Parameters
    ----------
    scratch : Path
        A temporary file for compressed tiles; `close` deletes it.
    shape : tuple of int
        (H, W), pixels.
    """

    def __init__(self, scratch: Path, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.scratch = scratch
        self.grid = (-(-shape[0] // TILE), -(-shape[1] // TILE))
        self._file = open(scratch, "w+b")
        self._stored: dict[tuple[int, int], tuple[int, int]] = {}
        # Decoded tiles, the last used one at the end; and those that were changed since they were read.
        self._open: OrderedDict[tuple[int, int], NDArray[np.int32]] = OrderedDict()
        self._changed: set[tuple[int, int]] = set()

    def close(self) -> None:
        """Close and delete the temporary file."""
        self._file.close()
        self.scratch.unlink(missing_ok=True)

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.int32]:
        """The labels of a rectangle within the image.

        Parameters
        ----------
        y0, y1, x0, x1 : int
            Half-open, pixels.

        Returns
        -------
        numpy.ndarray, (y1 - y0, x1 - x0), int32
        """
        out = np.zeros((y1 - y0, x1 - x0), np.int32)
        for key, inside, target in self._parts(y0, y1, x0, x1):
            tile = self._tile(key)
            if tile is not None:
                out[target] = tile[inside]
        return out

    def paint(self, y0: int, x0: int, labels: NDArray[np.int32], add: int = 0) -> None:
        """Write labels into the image; where `labels` is 0 the image stays as it is.

        Parameters
        ----------
        y0, x0 : int
            Where the upper left pixel of `labels` goes.
        labels : numpy.ndarray, (h, w), int32
        add : int
            Is added to each label.
        """
        height, width = labels.shape
        for key, inside, target in self._parts(y0, y0 + height, x0, x0 + width):
            part = labels[target]
            drawn = part > 0
            if not drawn.any():
                continue
            tile = self._tile(key)
            if tile is None:
                tile = np.zeros((TILE, TILE), np.int32)
                self._keep(key, tile)
            tile[inside][drawn] = part[drawn] + np.int32(add)
            self._changed.add(key)

    def encoded(self, key: tuple[int, int]) -> bytes | None:
        """A tile as it is stored in the TIFF.

        Parameters
        ----------
        key : tuple of int
            Row and column of the tile.

        Returns
        -------
        bytes or None
            Compressed; None if the tile is empty.
        """
        if key in self._changed:
            self._write_back(key)
        if key not in self._stored:
            return None
        start, length = self._stored[key]
        self._file.seek(start)
        return self._file.read(length)

    def sampled(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        """A smaller copy of the image: the labels at the centres of its pixels.

        Parameters
        ----------
        shape : tuple of int
            (h, w) of the copy.

        Returns
        -------
        numpy.ndarray, (h, w), int32
        """
        out = np.zeros(shape, np.int32)
        rows, columns = (
            ((np.arange(small) + 0.5) * full / small).astype(np.intp)
            for small, full in zip(shape, self.shape, strict=True)
        )
        for key in sorted(set(self._stored) | self._changed):
            inside = [
                np.flatnonzero((where >= part * TILE) & (where < (part + 1) * TILE))
                for where, part in zip((rows, columns), key, strict=True)
            ]
            tile = self._tile(key)
            if tile is not None and len(inside[0]) and len(inside[1]):
                picked = tile[np.ix_(rows[inside[0]] - key[0] * TILE, columns[inside[1]] - key[1] * TILE)]
                out[np.ix_(inside[0], inside[1])] = picked
        return out

    def halved(self, scratch: Path) -> LabelStore:
        """Every second pixel of every second row, as a new store.

        Parameters
        ----------
        scratch : Path
            The temporary file of the new store.

        Returns
        -------
        LabelStore
        """
        small = LabelStore(scratch, (-(-self.shape[0] // 2), -(-self.shape[1] // 2)))
        for row, column in sorted(set(self._stored) | self._changed):
            y0, x0 = row * TILE, column * TILE
            part = self.read(y0, min(y0 + TILE, self.shape[0]), x0, min(x0 + TILE, self.shape[1]))
            small.paint(y0 // 2, x0 // 2, np.ascontiguousarray(part[::2, ::2]))
        return small

    def _parts(
        self, y0: int, y1: int, x0: int, x1: int
    ) -> Iterator[tuple[tuple[int, int], tuple[slice, slice], tuple[slice, slice]]]:
        """The tiles of a rectangle: row and column, slices within the tile, and slices within the rectangle."""
        for row in range(y0 // TILE, -(-y1 // TILE)):
            for column in range(x0 // TILE, -(-x1 // TILE)):
                a, b = max(y0, row * TILE), min(y1, (row + 1) * TILE)
                c, d = max(x0, column * TILE), min(x1, (column + 1) * TILE)
                inside = (
                    slice(a - row * TILE, b - row * TILE),
                    slice(c - column * TILE, d - column * TILE),
                )
                yield (row, column), inside, (slice(a - y0, b - y0), slice(c - x0, d - x0))

    def _tile(self, key: tuple[int, int]) -> NDArray[np.int32] | None:
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        if key not in self._stored:
            return None
        start, length = self._stored[key]
        self._file.seek(start)
        raw = zlib.decompress(self._file.read(length))
        tile = np.frombuffer(raw, "<i4").reshape(TILE, TILE).astype(np.int32)
        self._keep(key, tile)
        return tile

    def _keep(self, key: tuple[int, int], tile: NDArray[np.int32]) -> None:
        self._open[key] = tile
        while len(self._open) > _OPEN_TILES:
            oldest = next(iter(self._open))
            if oldest in self._changed:
                self._write_back(oldest)
            del self._open[oldest]

    def _write_back(self, key: tuple[int, int]) -> None:
        data = zlib.compress(self._open[key].astype("<i4").tobytes(), _COMPRESSION)
        # The older copy of this tile stays in the file unused.
        start = self._file.seek(0, 2)
        self._file.write(data)
        self._stored[key] = (start, len(data))
        self._changed.discard(key)


def write_pyramid(store: LabelStore, path: Path, um_per_px: float | None) -> None:
    """Write a store as a tiled, compressed, pyramidal TIFF of int32 (BigTIFF, levels as SubIFDs).

    Parameters
    ----------
    store : LabelStore
    path : Path
    um_per_px : float or None
        Pixel size of the finest level, um.
    """
    levels = [store]
    try:
        while max(levels[-1].shape) > _SMALLEST:
            levels.append(levels[-1].halved(path.with_name(f".level{len(levels)}.scratch")))
        options: dict[str, Any] = {
            "dtype": "<i4",
            "tile": (TILE, TILE),
            "compression": "zlib",
            "photometric": "minisblack",
            "metadata": None,
            "software": "napari-leukocls",
        }
        with TiffWriter(path, bigtiff=True, byteorder="<") as tiff:
            for number, level in enumerate(levels):
                per_cm = 1e4 / (um_per_px * 2**number) if um_per_px else None
                tiff.write(
                    _encoded_tiles(level),
                    shape=level.shape,
                    subifds=len(levels) - 1 if number == 0 else None,
                    subfiletype=0 if number == 0 else 1,
                    resolution=(per_cm, per_cm) if per_cm else None,
                    resolutionunit="CENTIMETER" if per_cm else None,
                    **options,
                )
    finally:
        for level in levels[1:]:
            level.close()


def _encoded_tiles(level: LabelStore) -> Iterator[bytes]:
    empty = zlib.compress(bytes(4 * TILE * TILE), _COMPRESSION)
    for row in range(level.grid[0]):
        for column in range(level.grid[1]):
            yield level.encoded((row, column)) or empty


class LabelReader:
    """One level of a label pyramid, sliced like an array: ``labels[y0:y1, x0:x1]``.

    Parameters
    ----------
    path : Path
        A file that `write_pyramid` wrote.
    level : int
        0 is the finest.
    """

    dtype = np.dtype(np.int32)
    ndim = 2

    def __init__(self, path: Path, level: int = 0) -> None:
        with TiffFile(path) as tiff:
            page = tiff.series[0].levels[level].keyframe
            self.shape: tuple[int, int] = (page.imagelength, page.imagewidth)
            self._tiles = list(zip(page.dataoffsets, page.databytecounts, strict=True))
            self._side = (page.tilelength, page.tilewidth)
        self._path = path

    def __getitem__(self, where: tuple[slice, slice]) -> NDArray[np.int32]:
        (y0, y1, _), (x0, x1, _) = (part.indices(n) for part, n in zip(where, self.shape, strict=True))
        out = np.zeros((max(0, y1 - y0), max(0, x1 - x0)), np.int32)
        high, wide = self._side
        across = -(-self.shape[1] // wide)
        with open(self._path, "rb") as file:
            for row in range(y0 // high, -(-y1 // high)):
                for column in range(x0 // wide, -(-x1 // wide)):
                    start, length = self._tiles[row * across + column]
                    file.seek(start)
                    tile = np.frombuffer(zlib.decompress(file.read(length)), "<i4").reshape(high, wide)
                    a, b = max(y0, row * high), min(y1, (row + 1) * high)
                    c, d = max(x0, column * wide), min(x1, (column + 1) * wide)
                    out[a - y0 : b - y0, c - x0 : d - x0] = tile[
                        a - row * high : b - row * high, c - column * wide : d - column * wide
                    ]
        return out
