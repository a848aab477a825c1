"""SlideImage, its levels, its pixels as an array, and the limits of size."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.io._common import DAMAGE, ClosesItself, damaged

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: A TIFF with more pixels than this is read in tiles.
FIELD_PIXELS = 64_000_000
#: A glass slide at 0.05 um per pixel, more than any scanner makes; a header that states more is wrong.
MAX_SLIDE_PIXELS = 400_000_000_000
#: A tile or strip with more pixels cannot be decoded at once.
MAX_TILE_PIXELS = 64_000_000


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes
    ----------
    height, width : int
        Pixels.
    downsample : float
        Side of a pixel of this level in pixels of the finest level.
    """

    height: int
    width: int
    downsample: float


class SlideImage(ClosesItself):
    """A slide whose pixels are read in parts.

    Attributes
    ----------
    source : str
        The file or folder.
    um_per_px : float or None
        Pixel size of the finest level, um, if the file states a plausible one.
    levels : tuple of Level
        Finest first; there is at least one.
    notes : tuple of str
        Conversions that are made on reading.
    planes : int
        Depths and times in the file; the first one is read.
    """

    source: str
    um_per_px: float | None
    levels: tuple[Level, ...]
    notes: tuple[str, ...]
    planes: int = 1

    @abstractmethod
    def _read(self, y0: int, y1: int, x0: int, x1: int, level: int) -> NDArray[np.uint8]:
        """Decode a rectangle that lies within the level."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) of the finest level."""
        return self.levels[0].height, self.levels[0].width, 3

    def read(self, y0: int, y1: int, x0: int, x1: int, level: int = 0) -> NDArray[np.uint8]:
        """Decode a rectangle of one level.

        Parameters
        ----------
        y0, y1, x0, x1 : int
            Half-open, pixels of that level; what lies outside the slide is cut off.
        level : int
            0 is the finest.

        Returns
        -------
        numpy.ndarray, (h, w, 3), uint8
            RGB; parts that were not scanned are white.

        Raises
        ------
        InputError
            If the file is damaged there.
        """
        here = self.levels[level]
        y0, x0 = max(0, y0), max(0, x0)
        y1, x1 = max(y0, min(here.height, y1)), max(x0, min(here.width, x1))
        if y1 == y0 or x1 == x0:
            return np.zeros((y1 - y0, x1 - x0, 3), np.uint8)
        try:
            return np.ascontiguousarray(self._read(y0, y1, x0, x1, level))
        except DAMAGE as error:
            raise damaged(Path(self.source), error) from error

    def coarse_level(self, downsample: float) -> int:
        """The coarsest level that is still fine enough.

        Parameters
        ----------
        downsample : float
            The level may be coarser than the finest one by this factor at most (within 1 %).

        Returns
        -------
        int
            Index in `levels`.
        """
        fitting = [n for n, level in enumerate(self.levels) if level.downsample <= downsample * 1.01]
        return max(fitting, key=lambda n: self.levels[n].downsample, default=0)


class LazyPixels:
    """One level of a slide, sliced like an array: ``pixels[y0:y1, x0:x1]``.

    Parameters
    ----------
    slide : SlideImage
    level : int
        0 is the finest.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, slide: SlideImage, level: int = 0) -> None:
        self.slide = slide
        self.level = level
        self.shape = (slide.levels[level].height, slide.levels[level].width, 3)

    def __getitem__(self, where: tuple[slice, ...] | slice) -> NDArray[np.uint8]:
        parts = where if isinstance(where, tuple) else (where,)
        rows, columns = (
            (parts[axis] if axis < len(parts) else slice(None)).indices(self.shape[axis]) for axis in (0, 1)
        )
        pixels = self.slide.read(rows[0], rows[1], columns[0], columns[1], self.level)
        return pixels[:: rows[2], :: columns[2]][(slice(None), slice(None), *parts[2:])]
