"""From image layers to smears that can be analysed. No Qt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import npe2
import numpy as np
from napari.layers import Image

from napari_leukocls.errors import InputError
from napari_leukocls.io.convert import array_to_smear
from napari_leukocls.io.images import plane_axes
from napari_leukocls.io.inputs import safe_id
from napari_leukocls.io.planes import take_plane
from napari_leukocls.io.slides import read_smear
from napari_leukocls.types import SmearImage
from napari_leukocls.widgets.common.layer_geometry import height_and_width, pixel_size_um

#: Pixels of the largest image that is copied into memory.
MAX_WINDOW_PIXELS = 100_000_000
#: Side of the part of another layer that is looked at for its scale, pixels.
OTHER_SIDE = 1600
# Plugins whose layers are traced back to their file.
_PLUGIN, _NAPARI = "napari-leukocls", "napari"


def is_smear(layer: Any) -> bool:
    """Say whether a layer shows a smear: an image that no dock has added, as heatmaps are.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    bool
    """
    return isinstance(layer, Image) and "leukocls_overlay" not in layer.metadata


def smear_of(layer: Image, point: Sequence[float] | None = None) -> SmearImage:
    """Copy the image of a layer, so that it can be analysed outside the main thread.

    A layer that was opened from a file and not changed since gives what the command line reads from that file: the
    same pixels, pixel size and notes.

    Parameters
    ----------
    layer : napari.layers.Image
        RGB or grey; of a multiscale layer the full resolution is taken.
    point : sequence of float, optional
        What the viewer shows, in world coordinates (``viewer.dims.point``): of a stack, the plane there is taken; the
        first one by default.

    Returns
    -------
    SmearImage

    Raises
    ------
    InputError
        Where the layer is a whole slide that is too large, shows another picture than its file holds, or its file
        holds none of a smear.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    height, width = height_and_width(layer)
    if height * width > MAX_WINDOW_PIXELS:
        raise InputError(
            f"the layer '{layer.name}' is a whole slide of {width} x {height} pixels: analyse "
            "it in the Batch dock, or with leukocls analyze."
        )
    shown = _shown(layer, data, point)
    from_file = _smear_of_file(layer, data, shown)
    if from_file is not None:
        return from_file
    notes = list(layer.metadata.get("notes", ()))
    if layer.source.reader_plugin in (_PLUGIN, _NAPARI) and Path(str(layer.source.path)).is_file():
        notes.append("the layer differs from its file: the pixels of the layer were analysed")
    planes = int(np.prod(data.shape[: len(shown)], dtype=int))
    if planes > 1:
        number = int(np.ravel_multi_index(shown, data.shape[: len(shown)])) + 1
        notes.append(f"{planes} planes, number {number} was used")
    # This function makes the copy.
    return array_to_smear(
        np.asarray(data[shown]),
        safe_id(layer.name),
        source=_source(layer),
        um_per_px=pixel_size_um(layer),
        notes=tuple(notes),
    )


def is_stack(layer: Image) -> bool:
    """Tell whether a layer has several planes.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    bool
    """
    data = layer.data[0] if layer.multiscale else layer.data
    return bool(math.prod(data.shape[: max(0, layer.ndim - 2)]) > 1)


def projection_of(layer: Image, plane: str) -> SmearImage:
    """Copy the sharpest plane of a stack, or its extended depth of field.

    Parameters
    ----------
    layer : napari.layers.Image
    plane : {"sharpest", "focus"}
        As `napari_leukocls.io.planes.take_plane` takes it.

    Returns
    -------
    SmearImage

    Raises
    ------
    InputError
        Where the layer holds no smear.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    outer = data.shape[: layer.ndim - 2]
    notes = list(layer.metadata.get("notes", ()))

    def read(number: int) -> np.ndarray:
        return np.asarray(data[np.unravel_index(number, outer)])

    pixels = take_plane(read, math.prod(outer), plane, notes, layer.name)
    return array_to_smear(
        pixels,
        safe_id(layer.name),
        source=_source(layer),
        um_per_px=pixel_size_um(layer),
        notes=tuple(notes),
    )


def other_pixels(layer: Image, point: Sequence[float]) -> np.ndarray | None:
    """Copy the middle of another layer's image, so that its scale can be measured outside the main thread.

    Parameters
    ----------
    layer : napari.layers.Image
    point : sequence of float
        ``viewer.dims.point``.

    Returns
    -------
    numpy.ndarray or None, (h, w, 3), uint8
        None if it shows no smear, or states its own pixel size.
    """
    if pixel_size_um(layer) is not None:
        return None
    data = layer.data[0] if layer.multiscale else layer.data
    plane = data[_shown(layer, data, point)]
    starts = [max(0, (n - OTHER_SIDE) // 2) for n in plane.shape[:2]]
    part = plane[starts[0] : starts[0] + OTHER_SIDE, starts[1] : starts[1] + OTHER_SIDE]
    try:
        pixels: np.ndarray = array_to_smear(np.asarray(part), safe_id(layer.name)).pixels
    except InputError:
        return None
    return pixels


def plane_of(layer: Image, point: Sequence[float]) -> int | str:
    """Return the plane of a stack that the viewer shows.

    Parameters
    ----------
    layer : napari.layers.Image
    point : sequence of float
        ``viewer.dims.point``.

    Returns
    -------
    int or str
        Its number from 1 within the layer's file, else within the layer; ``first`` where there is a single plane.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    shown = _shown(layer, data, point)
    if math.prod(data.shape[: len(shown)]) == 1:
        return "first"
    path = layer.source.path
    number = _plane_of_file(path, data.shape, shown) if path and Path(path).is_file() else None
    return number or int(np.ravel_multi_index(shown, data.shape[: len(shown)])) + 1


def _source(layer: Image) -> str:
    return str(layer.metadata.get("source") or layer.source.path or layer.name)


def _shown(layer: Image, data: Any, point: Sequence[float] | None) -> tuple[int, ...]:
    """Index of the plane that is shown, along the axes before height and width; empty where there are none."""
    outer: int = layer.ndim - 2
    if outer <= 0:
        return ()
    if point is None:
        return (0,) * outer
    # The viewer may have more dimensions than the layer, which lies in the last ones.
    where = np.asarray(layer.world_to_data(np.asarray(point, float)[-layer.ndim :]), float)[:outer]
    last = np.array(data.shape[:outer]) - 1
    return tuple(int(n) for n in np.clip(np.rint(where), 0, last))


def _smear_of_file(layer: Image, data: Any, shown: tuple[int, ...]) -> SmearImage | None:
    """The smear as the command line reads it from the layer's file; None where the layer's own pixels are taken."""
    path = layer.source.path
    if not path or not Path(path).exists() or layer.source.reader_plugin not in (_PLUGIN, _NAPARI):
        return None
    plane = _plane_of_file(path, data.shape, shown)
    if plane is None and not _is_as_read(layer, data):
        return None
    own = layer.source.reader_plugin == _PLUGIN
    try:
        # napari's own reader shows pictures as they are stored, not turned by their EXIF orientation.
        smear, _ = read_smear(path, safe_id(layer.name), plane or "first", turned=own)
    except InputError:
        if own or _is_as_read(layer, data):
            raise
        return None
    pixels = np.asarray(data[shown])
    same = pixels.shape == smear.pixels.shape and np.array_equal(pixels, smear.pixels)
    if not same and not _is_as_read(layer, data):
        return None
    if plane is None or smear.pixels.shape[:2] != height_and_width(layer):
        raise InputError(
            f"the layer '{layer.name}' does not show the picture that its file holds ({smear.pixels.shape[1]} x "
            f"{smear.pixels.shape[0]} pixels) but another one, or a smaller copy: open the file with Leukocls "
            "(File > Open with Plugin), or save the picture as an RGB image."
        )
    return replace(smear, source=_source(layer), um_per_px=pixel_size_um(layer) or smear.um_per_px)


def _plane_of_file(path: str, shape: tuple[int, ...], shown: tuple[int, ...]) -> int | str | None:
    """Number of the shown plane within the layer's file; None where the layer has other axes than the file."""
    outer = shape[: len(shown)]
    axes = plane_axes(path)
    counts = [n for axis, n in axes if axis != "C"]
    if tuple(n for _, n in axes) == outer:
        index = [at for at, (axis, _) in zip(shown, axes, strict=True) if axis != "C"]
        return int(np.ravel_multi_index(index, counts)) + 1 if counts else "first"
    if int(np.prod(outer, dtype=int)) == 1:
        return "first"
    return shown[0] + 1 if outer == (int(np.prod(counts)),) else None


def _is_as_read(layer: Image, data: Any) -> bool:
    """Whether a layer still holds what napari's own reader reads from its file."""
    if layer.source.reader_plugin != _NAPARI:
        return False
    try:
        found = npe2.read([str(layer.source.path)], stack=False, plugin_name=_NAPARI)
        read, held = np.asarray(found[0][0]), np.asarray(data)
        return bool(np.array_equal(read, held, equal_nan=held.dtype.kind == "f"))
    except (OSError, ValueError, LookupError, TypeError, RuntimeError):
        return False
