"""What each reader of a format of microscopes, scanners or cameras gives."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_leukocls.io._common import ClosesItself, Picture, plausible_um_per_px
from napari_leukocls.io.channels import check_ground
from napari_leukocls.io.convert import check_size
from napari_leukocls.io.planes import take_plane

if TYPE_CHECKING:
    from numpy.typing import NDArray


#: The note of a file whose colours are channels of their own.
SEPARATE = "separate channels, used as red, green and blue"


class FormatFile(ClosesItself):
    """An open file of a microscope's, scanner's or camera's format.

    Attributes
    ----------
    file : Path
    height, width : int
        Pixels of the picture.
    um : tuple of (float or None)
        Width and height of a pixel, um, as the file states them.
    planes : int
        Depths and times.
    bits : int or None
        Depth of the values as the file states it, where that is less than their type holds.
    notes : list of str
        What was chosen or converted.
    downsamples : tuple of float
        Of the levels that can be read, finest first.
    slide : bool
        Whether the file is a scanner's, and a whole slide whatever its size.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.height = 0
        self.width = 0
        self.um: tuple[float | None, float | None] = (None, None)
        self.planes = 1
        self.bits: int | None = None
        self.notes: list[str] = []
        self.downsamples: tuple[float, ...] = (1.0,)
        self.slide = False

    @abstractmethod
    def read(self, y0: int, y1: int, x0: int, x1: int, level: int = 0, plane: int = 0) -> NDArray[np.generic]:
        """Decode a rectangle of a level.

        Parameters
        ----------
        y0, y1, x0, x1 : int
            Half-open, pixels of that level.
        level : int
            0 is the finest.
        plane : int
            Of a stack, from 0.

        Returns
        -------
        numpy.ndarray
            (h, w) grey, or (h, w, 3) red, green, blue; of any type.
        """

    def level_size(self, level: int) -> tuple[int, int]:
        """Height and width of a level, pixels.

        Parameters
        ----------
        level : int

        Returns
        -------
        height, width : int
        """
        step = self.downsamples[level]
        return max(1, round(self.height / step)), max(1, round(self.width / step))


def read_whole(opened: FormatFile, plane: int | str) -> Picture:
    """Read the whole picture.

    Parameters
    ----------
    opened : FormatFile
    plane : int or str
        Of a stack, see `napari_leukocls.io.planes.take_plane`.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If it is too small, too large, or has no such plane.
    """
    check_size(opened.width, opened.height, str(opened.file))
    notes = list(opened.notes)

    def read(index: int) -> np.ndarray:
        pixels = opened.read(0, opened.height, 0, opened.width, 0, index)
        if SEPARATE in opened.notes:
            check_ground(pixels, str(opened.file))
        return pixels

    array = take_plane(read, opened.planes, plane, notes, str(opened.file))
    um_per_px = plausible_um_per_px(*opened.um, notes, microscope=True)
    return Picture(array, um_per_px, list(dict.fromkeys(notes)), opened.bits)
