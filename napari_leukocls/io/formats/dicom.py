"""DICOM: pictures of cameras and archives by pydicom, whole slides by wsidicom."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE
from napari_leukocls.io.convert import check_size
from napari_leukocls.io.formats.base import FormatFile

try:
    import wsidicom
except ImportError:
    _WHOLE_SLIDES = False
else:
    _WHOLE_SLIDES = True

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Files beside a whole slide's that may be its other levels.
_MOST_FILES = 10_000
_COLOURS = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"})


class OpenedFile(FormatFile):
    """An open DICOM file; a whole slide with the other files of its series in the same folder.

    Parameters
    ----------
    file : Path

    Raises
    ------
    InputError
        If it holds no picture, or one in colours that are not read.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._slide: Any = None
        self._data = pydicom.dcmread(file, stop_before_pixels=True)
        if self._data.get("SOPClassUID") == VLWholeSlideMicroscopyImageStorage:
            self._open_slide()
        else:
            self._describe()

    def _describe(self) -> None:
        data = self._data
        if "Rows" not in data or "Columns" not in data:
            raise InputError(f"'{self.file}' is a DICOM file without a picture; give the image of the smear.")
        self.height, self.width = int(data.Rows), int(data.Columns)
        check_size(self.width, self.height, str(self.file))
        self.planes = max(1, int(data.get("NumberOfFrames") or 1))
        self._meaning = str(data.get("PhotometricInterpretation", "MONOCHROME2"))
        if self._meaning not in _COLOURS and not self._meaning.startswith("MONOCHROME"):
            raise InputError(
                f"'{self.file}' has colours of a kind that is not read ({self._meaning}); save it as RGB."
            )
        stored = int(data.get("BitsStored") or 0)
        self._stored = stored or int(data.BitsAllocated)
        self.bits = (
            stored if 1 < stored < int(data.BitsAllocated) and self._meaning != "PALETTE COLOR" else None
        )
        self.um = _pixel_size(data)
        if self._meaning == "PALETTE COLOR":
            self.notes.append("a palette image, converted to RGB")
        elif self._meaning == "MONOCHROME1":
            self.notes.append("white was stored as zero, inverted")

    def _open_slide(self) -> None:
        if not _WHOLE_SLIDES:
            raise InputError(
                f"'{self.file}' is a DICOM whole slide: to read it, run pip install 'napari-leukocls[dicom]'."
            )
        self._slide = wsidicom.WsiDicom.open(_series(self.file, str(self._data.get("SeriesInstanceUID", ""))))
        levels = sorted(self._slide.levels, key=lambda level: level.level)
        self._levels = [int(level.level) for level in levels]
        self.width, self.height = levels[0].size.width, levels[0].size.height
        self.downsamples = tuple(self.width / level.size.width for level in levels)
        spacing = levels[0].pixel_spacing
        if spacing is not None:
            self.um = spacing.width * 1000, spacing.height * 1000
        self.slide = True

    def level_size(self, level: int) -> tuple[int, int]:
        """Height and width of a level, pixels.

        Parameters
        ----------
        level : int

        Returns
        -------
        height, width : int
        """
        if self._slide is None:
            return super().level_size(level)
        size = next(one.size for one in self._slide.levels if one.level == self._levels[level])
        return int(size.height), int(size.width)

    def read(self, y0: int, y1: int, x0: int, x1: int, level: int = 0, plane: int = 0) -> NDArray[np.generic]:
        """Decode a rectangle of a level.

        Parameters
        ----------
        y0, y1, x0, x1 : int
            Half-open, pixels of that level.
        level, plane : int

        Returns
        -------
        numpy.ndarray
        """
        if self._slide is not None:
            region = self._slide.read_region((x0, y0), self._levels[level], (x1 - x0, y1 - y0))
            return np.asarray(region.convert("RGB"))
        pixels: NDArray[np.generic] = pixel_array(self.file, index=plane)
        if self._meaning == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, self._data)
        elif self._meaning == "MONOCHROME1":
            signed = pixels.dtype.kind == "i"
            pixels = (-1 - pixels) if signed else ((1 << self._stored) - 1 - pixels)
        if pixels.ndim not in (2, 3) or pixels.shape[:2] != (self.height, self.width):
            raise ValueError(f"its picture has the shape {pixels.shape}")
        return pixels[y0:y1, x0:x1]

    def close(self) -> None:
        """Close the files of a whole slide."""
        if self._slide is not None:
            self._slide.close()


def _pixel_size(data: pydicom.Dataset) -> tuple[float | None, float | None]:
    """Width and height of a pixel, um; the file states millimetres, rows first."""
    places: list[Any] = [data]
    with contextlib.suppress(AttributeError, IndexError, KeyError, TypeError):
        places.append(data.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0])
    for place in places:
        for name in ("PixelSpacing", "NominalScannedPixelSpacing", "ImagerPixelSpacing"):
            with contextlib.suppress(AttributeError, IndexError, TypeError, ValueError):
                down, across = (float(value) * 1000 for value in place[name].value)
                return across, down
    return None, None


def _series(file: Path, uid: str) -> list[Path]:
    """The files of a slide: those in the same folder that state the same series."""
    found = [file]
    for number, other in enumerate(sorted(file.parent.iterdir())):
        if number > _MOST_FILES:
            break
        if other != file and is_dicom(other) and series_of(other) == uid:
            found.append(other)
    return found


def is_dicom(file: Path) -> bool:
    """Whether a file begins as DICOM does.

    Parameters
    ----------
    file : Path

    Returns
    -------
    bool
    """
    try:
        if not file.is_file():
            return False
        with open(file, "rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def series_of(file: Path) -> str | None:
    """The series that a whole slide's file belongs to.

    Parameters
    ----------
    file : Path

    Returns
    -------
    str or None
        None where the file is no part of a whole slide, or cannot be read.
    """
    try:
        data = pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=["SOPClassUID", "SeriesInstanceUID"]
        )
    except (*DAMAGE, InvalidDicomError):
        return None
    if data.get("SOPClassUID") != VLWholeSlideMicroscopyImageStorage:
        return None
    return str(data.get("SeriesInstanceUID", "")) or None
