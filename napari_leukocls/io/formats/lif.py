"""Leica LIF, by liffile: the first image of a file that can be a picture of a smear."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import liffile
import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.io.channels import colour_order
from napari_leukocls.io.convert import check_size
from napari_leukocls.io.formats.base import SEPARATE, FormatFile

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenedFile(FormatFile):
    """An open LIF file.

    Parameters
    ----------
    file : Path

    Raises
    ------
    InputError
        If it holds no image, or its channels are no colour image.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._lif = liffile.LifFile(file)
        try:
            self._describe()
        except BaseException:
            self._lif.close()
            raise

    def _describe(self) -> None:
        images = [one for one in self._lif.images if {"Y", "X"} <= set(one.dims)]
        if not images:
            raise InputError(f"'{self.file}' holds no image; export the smear as TIFF in LAS X.")
        colour = [one for one in images if "S" in one.dims]
        self._image = (colour or images)[0]
        if len(images) > 1:
            self.notes.append(f"{len(images)} images, '{self._image.name}' was used")
        sizes = dict(self._image.sizes)
        self.height, self.width = int(sizes["Y"]), int(sizes["X"])
        check_size(self.width, self.height, str(self.file))
        self._order: tuple[int, ...] = ()
        if int(sizes.get("C", 1)) > 1:
            if "S" in sizes:
                raise InputError(
                    f"'{self.file}' has several colour channels; export the smear as TIFF in LAS X."
                )
            names, glows = _channel_names(self._image)
            self._order = colour_order(names, int(sizes["C"]), str(self.file), glows)
            self.notes.append(SEPARATE)
        self._sizes = {axis: int(n) for axis, n in sizes.items() if axis not in "YXSC"}
        self.planes = int(np.prod(list(self._sizes.values())))
        self.um = _step(self._image, "X"), _step(self._image, "Y")
        self.bits = _bits(self._image)

    def read(self, y0: int, y1: int, x0: int, x1: int, level: int = 0, plane: int = 0) -> NDArray[np.generic]:
        """Decode a plane, and cut a rectangle.

        Parameters
        ----------
        y0, y1, x0, x1 : int
            Half-open, pixels.
        level, plane : int
            There is one level.

        Returns
        -------
        numpy.ndarray
        """
        index = np.unravel_index(plane, list(self._sizes.values()) or [1])
        at = {axis: int(n) for axis, n in zip(self._sizes, index, strict=False)}
        dims = self._image.dims
        array = self._image.asarray()[tuple(at.get(axis, slice(None)) for axis in dims)]
        left = [axis for axis in dims if axis not in at]
        array = np.transpose(array, [left.index(axis) for axis in "YXSC" if axis in left])[y0:y1, x0:x1]
        return array[..., list(self._order)] if self._order else array

    def close(self) -> None:
        """Close the file."""
        self._lif.close()


def _step(image: Any, axis: str) -> float | None:
    """Size of a pixel along an axis, um; the file states metres from the first pixel to the last."""
    found = image.coords.get(axis)
    if found is None or len(found) < 2:
        return None
    step = abs(float(found[1]) - float(found[0])) * 1e6
    return step if step > 0 else None


def _bits(image: Any) -> int | None:
    """Depth of the values (the resolution of a channel), where it is less than their type's."""
    found = [int(one.get("Resolution", 0)) for one in image.xml_element.iter("ChannelDescription")]
    full = 8 * int(image.itemsize)
    return max(found) if found and 8 < max(found) < full else None


def _channel_names(image: Any) -> tuple[list[str], bool]:
    """Names of the channels (their lookup tables), and whether they are said to be fluorescence."""
    channels = list(image.xml_element.iter("ChannelDescription"))
    names = [one.get("LUTName", "") for one in channels]
    text = " ".join(p.get("Value", "") for one in channels for p in one.iter("ChannelProperty"))
    return names, "fluo" in text.lower()
