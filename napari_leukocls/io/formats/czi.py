"""Zeiss CZI, by the library of Zeiss (pylibCZIrw): fields, stacks, mosaics and whole slides."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pylibCZIrw import czi

from napari_leukocls.errors import InputError
from napari_leukocls.io.channels import colour_order
from napari_leukocls.io.formats.base import SEPARATE, FormatFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Axes of a stack; any other is a kind of microscopy that makes no single picture of a smear.
_STACK = ("T", "Z")
#: Levels of a slide are made until the longer side is below this.
_COARSEST_PX = 2048


class OpenedFile(FormatFile):
    """An open CZI file. Its scenes are read together, as they lie on the slide.

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
        self._stack = contextlib.ExitStack()
        try:
            self._reader = self._stack.enter_context(czi.open_czi(str(file)))
            self._describe()
        except BaseException:
            self._stack.close()
            raise

    def _describe(self) -> None:
        box = self._reader.total_bounding_box
        self._x, right = box["X"]
        self._y, bottom = box["Y"]
        self.width, self.height = int(right - self._x), int(bottom - self._y)
        self._start = {axis: int(box[axis][0]) for axis in (*_STACK, "C") if axis in box}
        self._sizes = [int(box[axis][1] - box[axis][0]) if axis in box else 1 for axis in _STACK]
        self.planes = int(np.prod(self._sizes))
        image = _part(self._reader.metadata, "ImageDocument", "Metadata", "Information", "Image")
        self.um = _pixel_size(self._reader.metadata)
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.bits = int(image["ComponentBitCount"])
        scenes = self._reader.scenes_bounding_rectangle
        if len(scenes) > 1:
            self.notes.append(f"{len(scenes)} scenes, read together as they lie on the slide")
        self._choose_channels(image)
        step = 1.0
        while max(self.width, self.height) / step > _COARSEST_PX:
            step *= 4
            self.downsamples = (*self.downsamples, step)

    def _choose_channels(self, image: Mapping[str, Any]) -> None:
        kinds = dict(self._reader.pixel_types)
        first = min(kinds, default=0)
        self._channels = [first]
        self._colour = str(kinds.get(first, "")).startswith("Bgr")
        if len(kinds) == 1:
            return
        if self._colour:
            self.notes.append(f"{len(kinds)} channels, the first one was used")
            return
        found = _part(image, "Dimensions", "Channels").get("Channel", [])
        found = found if isinstance(found, list) else [found]
        names = [str(one.get("@Name", "")) for one in found]
        glows = any(
            "EmissionWavelength" in one or one.get("ContrastMethod") == "Fluorescence" for one in found
        )
        order = colour_order(names, len(kinds), str(self.file), glows)
        self._channels = [sorted(kinds)[index] for index in order]
        self.notes.append(SEPARATE)

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
        rectangle = (
            int(self._x + x0 * step),
            int(self._y + y0 * step),
            max(1, min(int((x1 - x0) * step), self.width - int(x0 * step))),
            max(1, min(int((y1 - y0) * step), self.height - int(y0 * step))),
        )
        where = np.unravel_index(plane, self._sizes)
        at = {
            axis: self._start[axis] + int(n)
            for axis, n in zip(_STACK, where, strict=True)
            if axis in self._start
        }
        parts = [self._channel(rectangle, {**at, "C": channel}, step) for channel in self._channels]
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return _fit(pixels, y1 - y0, x1 - x0)

    def _channel(
        self, rectangle: tuple[int, int, int, int], plane: dict[str, int], step: float
    ) -> NDArray[np.generic]:
        # What was not scanned is white, as empty glass is.
        white = 1.0 if self.bits in (None, 8, 16) else ((1 << int(self.bits or 16)) - 1) / 65535
        part: NDArray[np.generic] = self._reader.read(
            roi=rectangle, plane=plane, zoom=1 / step, background_pixel=(white, white, white)
        )
        if part.shape[-1] == 3:
            # The library gives blue, green, red.
            return part[..., ::-1]
        if part.shape[-1] == 1:
            return part
        raise InputError(
            f"'{self.file}' has pixels of a kind that is not read; export it as OME-TIFF in ZEN."
        )

    def close(self) -> None:
        """Close the file."""
        self._stack.close()


def _fit(pixels: NDArray[np.generic], height: int, width: int) -> NDArray[np.generic]:
    """Exactly that many rows and columns: a scaled rectangle may lack one, or have one too many."""
    pixels = pixels[:height, :width]
    missing = height - pixels.shape[0], width - pixels.shape[1]
    if any(missing):
        pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return pixels


def _part(tree: Any, *names: str) -> Mapping[str, Any]:
    """A branch of the metadata; empty where there is none."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree if isinstance(tree, Mapping) else {}


def _pixel_size(metadata: Any) -> tuple[float | None, float | None]:
    """Width and height of a pixel, um; the file states metres."""
    found = _part(metadata, "ImageDocument", "Metadata", "Scaling", "Items").get("Distance", [])
    sizes: dict[str, float] = {}
    for one in found if isinstance(found, list) else [found]:
        with contextlib.suppress(KeyError, TypeError, ValueError):
            value = float(one["Value"]) * 1e6
            if value > 0:
                sizes[str(one["@Id"])] = value
    return sizes.get("X"), sizes.get("Y")
