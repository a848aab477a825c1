"""One labelled cell: an image of its own, or a box in an image of a field."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import read_image

Colour = tuple[float, float, float]


#: Side of the crop around a box, in longer sides of the box: a leukocyte with the red cells beside it.
AROUND = 2.5
#: Least side of a crop, pixels.
LEAST_SIDE_PX = 64
#: Side of the part of a field in which red cells are measured, pixels.
SURROUNDINGS_PX = 1024


@dataclass(frozen=True)
class LabelledCrop:
    """One image of one cell.

    Attributes
    ----------
    file : str
        As the data names it: relative to the folder or the CSV.
    path : Path
    class_name : str
        The project's name of the class if the scheme knows it, else the name in the data.
    um_per_px : float or None
    patient, slide : str
        Empty if they are not known.
    split : str
        ``train``, ``validation``, ``test``, or empty.
    mask_path : Path or None
        Image of the same size, white where the cell is; None if the cell is not outlined.
    glass : tuple of 3 float or None
        RGB of the smear's empty glass, 0-255; NaN where it has none, None if it was not measured.
    red_cell_density : tuple of 3 float or None
        Optical density of the smear's red cells; NaN where it has too few, None if it was not measured.
    box : tuple of 4 int or None
        x0, y0, x1, y1 of the cell, half-open, if the file is an image of a field. The crop is a square around it.
    outline : tuple of tuple of float
        Polygons x, y, x, y, ... around the cell, in pixels of the field; empty if it is not outlined.
    """

    file: str
    path: Path
    class_name: str
    um_per_px: float | None = None
    patient: str = ""
    slide: str = ""
    split: str = ""
    mask_path: Path | None = None
    glass: Colour | None = None
    red_cell_density: Colour | None = None
    box: tuple[int, int, int, int] | None = None
    outline: tuple[tuple[float, ...], ...] = ()

    def raw(self) -> bytes:
        """Return the bytes of the image file; of a cell in a field, its crop as PNG.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return self.path.read_bytes() if self.box is None else _png(self.pixels())

    def pixels(self) -> np.ndarray:
        """Return the image, (h, w, 3) uint8.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        if self.box is None:
            return read_image(self.path).pixels
        return _cut(_field(self), self.box)

    def surroundings(self) -> np.ndarray:
        """Return the image in which red cells around the cell are measured, (h, w, 3) uint8.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        if self.box is None:
            return self.pixels()
        field = _field(self)
        middle = ((self.box[1] + self.box[3]) // 2, (self.box[0] + self.box[2]) // 2)
        starts = [
            max(0, min(at - SURROUNDINGS_PX // 2, length - SURROUNDINGS_PX))
            for at, length in zip(middle, field.shape[:2], strict=True)
        ]
        return field[starts[0] : starts[0] + SURROUNDINGS_PX, starts[1] : starts[1] + SURROUNDINGS_PX]

    def size(self) -> tuple[int, int]:
        """Return the height and width of the file's image, by which cameras are told apart.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        height, width = (self.pixels() if self.box is None else _field(self)).shape[:2]
        return height, width

    def raw_mask(self) -> bytes:
        """Return the bytes of the mask's file; empty if the cell is not outlined.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        if self.box is not None and self.outline:
            mask = self.cell_mask()
            return b"" if mask is None else _png(mask)
        return b"" if self.mask_path is None else self.mask_path.read_bytes()

    def cell_mask(self) -> np.ndarray | None:
        """Return the mask of the cell, (h, w) uint8, above 127 in the cell; None if it is not outlined.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        if self.box is not None and self.outline:
            return _filled(self.outline, self.box)
        return None if self.mask_path is None else read_image(self.mask_path).pixels[..., 0]


def _field(crop: LabelledCrop) -> np.ndarray:
    """The field that a cell is in."""
    try:
        changed = crop.path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        raise InputError(f"there is no file '{crop.path}'; check the name and the folder.") from error
    return _read(crop.path, changed)


@lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> np.ndarray:
    """An image, kept for the next cells of the same field."""
    pixels = read_image(path).pixels
    pixels.setflags(write=False)
    return pixels


def window_of(box: tuple[int, int, int, int]) -> tuple[int, int, int]:
    """Place the square crop around a cell of a field.

    Parameters
    ----------
    box : tuple of 4 int
        x0, y0, x1, y1.

    Returns
    -------
    x, y : int
        First pixel of the square in the field; may be negative.
    side : int
        Pixels.
    """
    x0, y0, x1, y1 = box
    side = max(LEAST_SIDE_PX, round(AROUND * max(x1 - x0, y1 - y0)))
    return (x0 + x1 - side) // 2, (y0 + y1 - side) // 2, side


def _cut(field: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The square around a cell; outside the field it has the colour of the field's brightest parts, the glass."""
    x, y, side = window_of(box)
    height, width = field.shape[:2]
    glass = np.percentile(field[::8, ::8].reshape(-1, 3), 90, axis=0).round().astype(np.uint8)
    crop = np.empty((side, side, 3), np.uint8)
    crop[:] = glass
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    if bottom > top and right > left:
        crop[top - y : bottom - y, left - x : right - x] = field[top:bottom, left:right]
    return crop


def _filled(outline: tuple[tuple[float, ...], ...], box: tuple[int, int, int, int]) -> np.ndarray:
    """The mask of a cell in its crop."""
    x, y, side = window_of(box)
    rings = [np.round(np.reshape(ring, (-1, 2)) - (x, y)).astype(np.int32) for ring in outline]
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, rings, 255)
    return mask


def _png(pixels: np.ndarray) -> bytes:
    array = pixels[..., ::-1] if pixels.ndim == 3 else pixels
    return bytes(cv2.imencode(".png", np.ascontiguousarray(array))[1])
