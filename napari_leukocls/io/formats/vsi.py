"""Olympus VSI (with its folder of ETS files) and Zeiss ZVI, by slideio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import slideio

from napari_leukocls.errors import InputError
from napari_leukocls.io.channels import colour_order
from napari_leukocls.io.formats.base import FormatFile

if TYPE_CHECKING:
    from numpy.typing import NDArray


class OpenedFile(FormatFile):
    """An open VSI or ZVI file: its largest scene.

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
        driver = file.suffix[1:].upper()
        beside = file.with_name(f"_{file.stem}_")
        if driver == "VSI" and not any(beside.rglob("*.ets")):
            # The file itself holds a preview, which the library gives where the slide is missing.
            raise InputError(
                f"'{file}' lacks its slide; copy it together with the folder '{beside.name}' beside it."
            )
        self._slide = slideio.open_slide(str(file), driver)
        scenes = [self._slide.get_scene(number) for number in range(self._slide.num_scenes)]
        if not scenes:
            raise InputError(f"'{file}' holds no image; export the smear as TIFF.")
        self._scene = max(scenes, key=lambda scene: scene.size[0] * scene.size[1])
        if len(scenes) > 1:
            self.notes.append(f"{len(scenes)} scenes, the largest one was used")
        self.width, self.height = (int(n) for n in self._scene.size)
        across, down = (float(value) * 1e6 for value in self._scene.resolution)
        self.um = across or None, down or None
        self._depths = max(1, int(self._scene.num_z_slices))
        self.planes = self._depths * max(1, int(self._scene.num_t_frames))
        self._order = self._colours()
        self.downsamples = tuple(
            float(1 / self._scene.get_zoom_level_info(level).scale) if level else 1.0
            for level in range(max(1, int(self._scene.num_zoom_levels)))
        )
        self.slide = driver == "VSI" and len(self.downsamples) > 1

    def _colours(self) -> list[int]:
        count = int(self._scene.num_channels)
        if count == 1:
            return [0]
        names = [str(self._scene.get_channel_name(number)) for number in range(count)]
        return list(colour_order(names, count, str(self.file)))

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
        step = self.downsamples[level]
        left, top = int(x0 * step), int(y0 * step)
        across = max(1, min(int((x1 - x0) * step), self.width - left))
        down = max(1, min(int((y1 - y0) * step), self.height - top))
        depth, time = plane % self._depths, plane // self._depths
        pixels: NDArray[np.generic] = self._scene.read_block(
            rect=(left, top, across, down),
            size=(x1 - x0, y1 - y0),
            channel_indices=self._order,
            slices=(depth, depth + 1),
            frames=(time, time + 1),
        )
        return pixels

    def close(self) -> None:
        """Close the file."""
        self._scene.close()
        self._slide.close()
