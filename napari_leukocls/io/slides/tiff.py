"""Large TIFF files, read tile by tile: plain, OME, and the pyramids that scanners export."""

from __future__ import annotations

import math
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE
from napari_leukocls.io._tiff import check_pages, check_whole, um_per_px_of
from napari_leukocls.io.convert import MAX_PIXELS
from napari_leukocls.io.slides.base import FIELD_PIXELS, MAX_TILE_PIXELS, Level, SlideImage

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffPage, TiffPageSeries

#: Decoded tiles in memory, bytes: neighbouring rectangles use the same tiles.
_CACHE_BYTES = 96_000_000
_AS_RGB = "save it as 8-bit RGB"


def is_large_or_pyramid(file: Path) -> bool:
    """Whether a TIFF is read in tiles: it is large, or a pyramid.

    A file that cannot be read in tiles (CMYK, separate planes, one large piece) is read as a field, as long as it
    is small enough for that.

    Parameters
    ----------
    file : Path

    Returns
    -------
    bool
        False if the file cannot be read at all.
    """
    try:
        with tifffile.TiffFile(file) as tiff:
            check_pages(tiff)
            page = tiff.series[0].keyframe
            pyramid = page.is_tiled and len(tiff.series[0].levels) > 1
            pixels = page.imagewidth * page.imagelength
            if _refusal(page) is not None and pixels <= MAX_PIXELS:
                return False
            return pyramid or pixels > FIELD_PIXELS
    except (*DAMAGE, MemoryError):
        # Reading it as a field raises the error.
        return False


class TiffSlide(SlideImage):
    """A TIFF of which only the tiles that are asked for are decoded.

    Parameters
    ----------
    file : Path

    Raises
    ------
    InputError
        If it is no colour image of 8 or 16 bits, ends too early, or has tiles or strips that are too large
        to decode.
    """

    def __init__(self, file: Path) -> None:
        self.source = str(file)
        self._tiff = tifffile.TiffFile(file)
        try:
            series = self._tiff.series[0]
            self._pages = [self._colour_pages(level) for level in series.levels]
            page = self._pages[0][0]
            for pages in self._pages:
                for each in pages:
                    self._check_page(each, file)
            notes: list[str] = []
            self.planes = math.prod(
                n for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YXSC"
            )
            self.um_per_px = um_per_px_of(self._tiff, page, notes)
            self._white = self._largest_value()
            if self._white != 255:
                notes.append(f"{page.dtype} values, scaled from 0-{self._white} to 8 bit")
        except BaseException:
            self._tiff.close()
            raise
        height, width = page.imagelength, page.imagewidth
        self.levels = tuple(
            Level(p[0].imagelength, p[0].imagewidth, width / p[0].imagewidth) for p in self._pages
        )
        self.levels = (Level(height, width, 1.0), *self.levels[1:])
        self.notes = tuple(notes)
        self._cache: OrderedDict[tuple[int, int, int], NDArray[np.uint8]] = OrderedDict()
        self._cached = 0
        # The layers of a viewer use the slide as long as they are shown, and nothing closes it after that.
        weakref.finalize(self, self._tiff.close)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def _colour_pages(self, level: TiffPageSeries) -> list[TiffPage]:
        """One page of RGB or grey, or one page for each colour."""
        axes, shape = level.axes, level.shape
        channels = shape[axes.index("C")] if "C" in axes and "S" not in axes else 1
        if channels not in (1, 3, 4):
            raise InputError(f"'{self.source}' has {channels} channels; give the stained smear as RGB.")
        # The other planes of a stack are other images.
        pages = [level.pages[n] for n in range(3 if channels > 1 else 1)]
        if any(page is None for page in pages):
            raise InputError(
                f"'{self.source}' lacks a plane that its header names; copy it again from its source."
            )
        return [page.aspage() for page in pages if page is not None]

    def _check_page(self, page: TiffPage, file: Path) -> None:
        check_whole(self._tiff, page, file)
        why = _refusal(page)
        if why is not None:
            raise InputError(f"'{file}' {why}.")

    def _largest_value(self) -> int:
        """The value of white: 255, or the full scale of the bits that the coarsest level uses."""
        if self._pages[0][0].dtype == np.uint8:
            return 255
        tag = self._pages[0][0].tags.get(281)
        if tag is not None and isinstance(tag.value, int) and tag.value > 0:
            return tag.value
        pages = self._pages[-1]
        middle = [_decoded(page, len(page.dataoffsets) // 2) for page in pages]
        high = max(int(tile.max()) for tile in middle)
        return next((2**bits - 1 for bits in (8, 10, 12, 14) if high <= 2**bits - 1), 65535)

    def _read(self, y0: int, y1: int, x0: int, x1: int, level: int) -> NDArray[np.uint8]:
        out = np.empty((y1 - y0, x1 - x0, 3), np.uint8)
        page = self._pages[level][0]
        height, width = _tile_shape(page)
        across = -(-page.imagewidth // width)
        for row in range(y0 // height, -(-y1 // height)):
            for column in range(x0 // width, -(-x1 // width)):
                tile = self._tile(level, row * across + column)
                top, left = row * height, column * width
                a, b = max(y0, top), min(y1, top + height)
                c, d = max(x0, left), min(x1, left + width)
                out[a - y0 : b - y0, c - x0 : d - x0] = tile[a - top : b - top, c - left : d - left]
        return out

    def _tile(self, level: int, index: int) -> NDArray[np.uint8]:
        """One tile as RGB, from the cache if it is there."""
        key = (level, index, 0)
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        planes = [self._eight_bit(_decoded(page, index)) for page in self._pages[level]]
        tile = planes[0] if len(planes) == 1 else np.concatenate([p[..., :1] for p in planes], axis=-1)
        tile = np.repeat(tile, 3, axis=-1) if tile.shape[-1] == 1 else tile[..., :3]
        self._cache[key] = tile
        self._cached += tile.nbytes
        while self._cached > _CACHE_BYTES and len(self._cache) > 1:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return tile

    def _eight_bit(self, tile: NDArray[np.generic]) -> NDArray[np.uint8]:
        if tile.dtype == np.uint8:
            return tile.astype(np.uint8, copy=False)
        scaled: NDArray[np.float32] = tile.astype(np.float32) * np.float32(255 / self._white)
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _refusal(page: TiffPage) -> str | None:
    """Why an image cannot be read tile by tile, and what to do; None if it can."""
    if page.dtype not in (np.uint8, np.uint16):
        return f"holds values of type {page.dtype}; {_AS_RGB}"
    if page.planarconfig == 2 and page.samplesperpixel > 1:
        return f"stores its colours in separate planes; {_AS_RGB} with interleaved colours"
    if page.photometric not in (1, 2, 6) or page.samplesperpixel not in (1, 3, 4):
        return f"is not an RGB or grey image; {_AS_RGB}"
    height, width = _tile_shape(page)
    if height * width > MAX_TILE_PIXELS:
        return f"is one piece of {width} x {height} pixels, too large to be decoded; save it tiled"
    return None


def _tile_shape(page: TiffPage) -> tuple[int, int]:
    """Height and width of a tile or strip, pixels."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _decoded(page: TiffPage, index: int) -> NDArray[np.generic]:
    """One tile or strip, (h, w, samples), padded to its full size; white if the file does not store it."""
    height, width = _tile_shape(page)
    shape = (height, width, page.samplesperpixel)
    white = 255 if page.dtype == np.uint8 else 65535
    if page.databytecounts[index] == 0:
        return np.full(shape, white, page.dtype)
    file = page.parent.filehandle
    file.seek(page.dataoffsets[index])
    data = file.read(page.databytecounts[index])
    decoded, _, _ = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
    if decoded is None:
        return np.full(shape, white, page.dtype)
    tile: NDArray[np.generic] = decoded[0]
    if tile.shape[:2] != (height, width):
        padded = np.full(shape, white, page.dtype)
        padded[: tile.shape[0], : tile.shape[1]] = tile
        return padded
    return tile
