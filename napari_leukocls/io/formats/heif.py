"""HEIC and HEIF, the pictures of phones, by pillow-heif."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pillow_heif

from napari_leukocls.io.convert import check_size
from napari_leukocls.io.formats.base import FormatFile

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenedFile(FormatFile):
    """An open HEIC picture: its main image, turned upright by the library.

    Parameters
    ----------
    file : Path
    """

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        # Deep pictures keep their values, which the library writes into 16 bits.
        self._image = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
        main = self._image[self._image.primary_index]
        self.width, self.height = main.size
        check_size(self.width, self.height, str(file))
        if len(self._image) > 1:
            self.notes.append(f"{len(self._image)} pictures, the main one was used")
        self._main = main

    def read(self, y0: int, y1: int, x0: int, x1: int, level: int = 0, plane: int = 0) -> NDArray[np.generic]:
        """Decode the picture, and cut a rectangle.

        Parameters
        ----------
        y0, y1, x0, x1 : int
            Half-open, pixels.
        level, plane : int
            There is one of each.

        Returns
        -------
        numpy.ndarray
        """
        pixels: NDArray[np.generic] = np.asarray(self._main)[y0:y1, x0:x1]
        return pixels

    def close(self) -> None:
        """Do nothing: no file stays open."""
