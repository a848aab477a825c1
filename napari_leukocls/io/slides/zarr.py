"""OME-Zarr: the multiscale image of a Zarr group (version 2 or 3), or a plain Zarr array."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.errors import InputError
from napari_leukocls.io._common import DAMAGE, damaged, plausible_um_per_px
from napari_leukocls.io._tiff import UM_PER_UNIT
from napari_leukocls.io.slides.base import MAX_TILE_PIXELS, Level, SlideImage

try:
    import zarr
except ImportError:
    _INSTALLED = False
else:
    _INSTALLED = True

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from zarr import Array


class ZarrSlide(SlideImage):
    """An OME-Zarr image: RGB, with the channels on any axis; of times and depths the first is read.

    Parameters
    ----------
    folder : Path

    Raises
    ------
    InputError
        If zarr is not installed, or the folder holds no RGB or grey image of 8 bits.
    """

    def __init__(self, folder: Path) -> None:
        if not _INSTALLED:
            raise InputError(f"'{folder}' needs zarr: pip install 'napari-leukocls[wsi]'.")
        self.source = str(folder)
        notes: list[str] = []
        try:
            opened = zarr.open(str(folder), mode="r")
            self._arrays, axes, scale = _multiscale(opened, folder)
        except (*DAMAGE, zarr.errors.BaseZarrError) as error:
            raise damaged(folder, error) from error
        self._axes = axes or _plain_axes(self._arrays[0].shape)
        for array in self._arrays:
            self._check(array, folder)
        self.um_per_px = plausible_um_per_px(*scale, notes)
        sizes = [(a.shape[self._axes.index("y")], a.shape[self._axes.index("x")]) for a in self._arrays]
        self.levels = tuple(Level(height, width, sizes[0][1] / width) for height, width in sizes)
        self.notes = tuple(notes)
        outer = [n for axis, n in zip(self._axes, self._arrays[0].shape, strict=True) if axis not in "yxc"]
        self.planes = int(np.prod(outer, dtype=int))

    def _check(self, array: Array[Any], folder: Path) -> None:
        if array.dtype != np.uint8:
            raise InputError(f"'{folder}' holds values of type {array.dtype}; save it as 8-bit RGB.")
        if len(self._axes) != array.ndim or not {"y", "x"} <= set(self._axes):
            raise InputError(f"'{folder}' does not have the axes of an image; save it as (c, y, x).")
        if min(array.shape) == 0 or (
            "c" in self._axes and array.shape[self._axes.index("c")] not in (1, 3, 4)
        ):
            raise InputError(f"'{folder}' has the shape {array.shape}; give the stained smear as RGB.")
        if int(np.prod(array.chunks, dtype=float)) > 4 * MAX_TILE_PIXELS:
            raise InputError(
                f"'{folder}' has chunks of {array.chunks}, too large to be decoded; save it with smaller chunks."
            )

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _read(self, y0: int, y1: int, x0: int, x1: int, level: int) -> NDArray[np.uint8]:
        parts: dict[str, Any] = {"y": slice(y0, y1), "x": slice(x0, x1), "c": slice(0, 3)}
        cut = np.asarray(self._arrays[level][tuple(parts.get(axis, 0) for axis in self._axes)])
        left = [axis for axis in self._axes if axis in parts]
        if "c" not in left:
            return np.repeat(cut.transpose([left.index(a) for a in "yx"])[..., None], 3, axis=-1)
        pixels = cut.transpose([left.index(axis) for axis in "yxc"])
        return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _multiscale(opened: Any, folder: Path) -> tuple[list[Array[Any]], str, tuple[float | None, float | None]]:
    """Arrays (finest first), the letters of their axes, and the size of a pixel in x and y, um."""
    if hasattr(opened, "shape"):
        return [opened], "", (None, None)
    attributes = dict(opened.attrs)
    scales = attributes.get("ome", attributes).get("multiscales")
    if not scales:
        raise InputError(f"'{folder}' is a Zarr group without a multiscale image; give an OME-Zarr.")
    first = scales[0]
    arrays = [opened[entry["path"]] for entry in first["datasets"]]
    axes = "".join((axis["name"] if isinstance(axis, dict) else str(axis))[0] for axis in first["axes"])
    sizes: list[float | None] = []
    steps = [t["scale"] for t in first["datasets"][0].get("coordinateTransformations", []) if "scale" in t]
    for name in "xy":
        axis = first["axes"][axes.index(name)]
        unit = UM_PER_UNIT.get(str(axis.get("unit", "")).lower()) if isinstance(axis, dict) else None
        sizes.append(float(steps[0][axes.index(name)]) * unit if steps and unit else None)
    return arrays, axes, (sizes[0], sizes[1])


def _plain_axes(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "yx"
    return "yxc" if len(shape) == 3 and shape[-1] in (1, 3, 4) else "cyx"
