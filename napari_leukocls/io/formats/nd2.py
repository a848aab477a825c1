"""Nikon ND2, by the package nd2: the first position of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import nd2
import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.io.channels import colour_order
from napari_leukocls.io.convert import check_size
from napari_leukocls.io.formats.base import SEPARATE, FormatFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_NOT_PLANES = ("Y", "X", "S", "C", "P")


class OpenedFile(FormatFile):
    """An open ND2 file.

    Parameters
    ----------
    file : Path

    Raises
    ------
    InputError
        If its channels are no colour image.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self._nd2 = nd2.ND2File(file)
        try:
            self._describe()
        except BaseException:
            self._nd2.close()
            raise

    def _describe(self) -> None:
        sizes = {axis: int(n) for axis, n in self._nd2.sizes.items()}
        if not {"Y", "X"} <= set(sizes):
            raise InputError(f"'{self.file}' holds no image; export the smear as TIFF in NIS-Elements.")
        self.height, self.width = sizes["Y"], sizes["X"]
        check_size(self.width, self.height, str(self.file))
        self._loops = [axis for axis in sizes if axis not in "YXSC"]
        self._counts = [sizes[axis] for axis in self._loops]
        self.planes = int(np.prod([sizes[axis] for axis in sizes if axis not in _NOT_PLANES]))
        if sizes.get("P", 1) > 1:
            self.notes.append(f"{sizes['P']} positions, the first one was used")
        self._rgb = bool(self._nd2.is_rgb)
        self._order: tuple[int, ...] = ()
        if self._rgb:
            # As NIS-Elements stores them; the package gives the values as they are stored.
            self._order = (2, 1, 0)
            self.notes.append("colours stored as blue, green and red, put in order")
        elif sizes.get("C", 1) > 1:
            self._order = self._separate(sizes["C"])
        self.um = self._pixel_size()
        bits = int(self._nd2.attributes.bitsPerComponentSignificant or 0)
        self.bits = bits if 8 < bits < 8 * self._nd2.dtype.itemsize else None

    def _separate(self, count: int) -> tuple[int, int, int]:
        channels = self._channels()
        names = [str(one.channel.name) for one in channels]
        glows = any(one.channel.emissionLambdaNm for one in channels)
        order = colour_order(names, count, str(self.file), glows)
        self.notes.append(SEPARATE)
        return order

    def _pixel_size(self) -> tuple[float | None, float | None]:
        """Width and height of a pixel, um; a file that was not calibrated states 1."""
        channels = self._channels()
        if not channels or not all(channels[0].volume.axesCalibrated[:2]):
            return None, None
        across, down = channels[0].volume.axesCalibration[:2]
        return float(across), float(down)

    def _channels(self) -> list[Any]:
        """What the file states about its channels; a picture is read without that, too."""
        try:
            return list(self._nd2.metadata.channels or [])
        except Exception as error:  # noqa: BLE001 - the library raises anything on metadata that it does not know
            self.notes.append(
                f"the metadata cannot be read ({type(error).__name__}): no pixel size is taken from it"
            )
            return []

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
        inner = [axis for axis in self._loops if axis != "P"]
        counts = [n for axis, n in zip(self._loops, self._counts, strict=True) if axis != "P"]
        at = dict(zip(inner, np.unravel_index(plane, counts or [1]), strict=False))
        where = [int(at.get(axis, 0)) for axis in self._loops]
        frame = int(np.ravel_multi_index(where, self._counts)) if where else 0
        # A frame is (C, Y, X) or (Y, X, S), without the axes of length 1.
        pixels: NDArray[np.generic] = np.asarray(self._nd2.read_frame(frame))
        if not pixels.any():
            # The package gives black for a frame that is not in the file.
            raise EOFError("its frame is missing")
        if self._order and not self._rgb:
            pixels = np.moveaxis(pixels, 0, -1)
        pixels = pixels.squeeze() if not self._order else pixels
        return pixels[y0:y1, x0:x1][..., list(self._order)] if self._order else pixels[y0:y1, x0:x1]

    def close(self) -> None:
        """Close the file."""
        self._nd2.close()
