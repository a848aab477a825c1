"""Whole slides in formats of scanners that have a library each (CZI, VSI, DICOM)."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import plausible_um_per_px
from napari_leukocls.io.convert import scale_to_uint8, value_range
from napari_leukocls.io.formats import Format, guarded, open_format
from napari_leukocls.io.slides.base import FIELD_PIXELS, Level, SlideImage

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: The white point of a slide of more than 8 bits is found on at most this many pixels.
_WHITE_PIXELS = 4_000_000


def is_large_or_scanned(kind: Format, file: Path) -> bool:
    """Whether a file is read in parts: it is larger than a field, or a scanner's.

    Parameters
    ----------
    kind : Format
    file : Path

    Returns
    -------
    bool
        False where it cannot be opened: reading it as a field raises the error.
    """
    try:
        with open_format(kind, file) as opened:
            return opened.slide or opened.height * opened.width > FIELD_PIXELS
    except InputError:
        return False


class FormatSlide(SlideImage):
    """A whole slide in a format of a scanner; of depths and times the first is read.

    Parameters
    ----------
    kind : Format
    file : Path

    Raises
    ------
    InputError
        If it cannot be read, or its library is not installed.
    """

    def __init__(self, kind: Format, file: Path) -> None:
        self.source = str(file)
        self._opened = opened = open_format(kind, file)
        notes = list(opened.notes)
        self.planes = opened.planes
        self.um_per_px = plausible_um_per_px(*opened.um, notes, microscope=True)
        sizes = [opened.level_size(level) for level in range(len(opened.downsamples))]
        self.levels = tuple(
            Level(height, width, step)
            for (height, width), step in zip(sizes, opened.downsamples, strict=True)
        )
        self._range = self._values(notes)
        self.notes = tuple(dict.fromkeys(notes))
        weakref.finalize(self, opened.close)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def _values(self, notes: list[str]) -> tuple[float, float] | None:
        """The values that become black and white; None for 8 bits."""
        level = len(self.levels) - 1
        height, width = self.levels[level].height, self.levels[level].width
        side = min(1.0, (_WHITE_PIXELS / (height * width)) ** 0.5)
        part_h, part_w = max(1, int(height * side)), max(1, int(width * side))
        top, left = (height - part_h) // 2, (width - part_w) // 2
        part = self._raw(top, top + part_h, left, left + part_w, level)
        if part.dtype == np.uint8:
            return None
        low, high, rule = value_range(part, self._opened.bits)
        notes.append(f"{part.dtype} values, {rule}")
        return low, high

    def _raw(self, y0: int, y1: int, x0: int, x1: int, level: int) -> NDArray[np.generic]:
        with guarded(self._opened.file):
            return self._opened.read(y0, y1, x0, x1, level, 0)

    def _read(self, y0: int, y1: int, x0: int, x1: int, level: int) -> NDArray[np.uint8]:
        part = self._raw(y0, y1, x0, x1, level)
        if part.ndim == 2:
            part = part[..., None]
        if self._range is not None:
            part = scale_to_uint8(part, *self._range)
        pixels = np.repeat(part, 3, axis=-1) if part.shape[-1] == 1 else part[..., :3]
        return pixels.astype(np.uint8, copy=False)
