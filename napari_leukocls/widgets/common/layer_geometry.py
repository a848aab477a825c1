"""Where an image layer lies and what is seen of it: pixel size, place, shapes on it. No Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image

from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX
from napari_leukocls.widgets.common.units import own_units

if TYPE_CHECKING:
    from napari.layers import Shapes

_ELLIPSE_POINTS = 64

_UM = {"um": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3}


def pixel_size_um(layer: Image) -> float | None:
    """Return the pixel size of a layer in micrometres.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    float or None
        None if the layer has no unit of length, or a size that is not plausible.
    """
    unit = str(own_units(layer)[-1]).lower().replace("µ", "u")
    if unit not in _UM:
        return None
    steps = np.abs(np.asarray(layer.scale, float)[-2:])
    size = float(steps.mean() * _UM[unit])
    return size if LEAST_UM_PER_PX < size < MOST_UM_PER_PX else None


def placement_of(layer: Image) -> dict[str, Any]:
    """Return the position, scale and rotation of a layer, for a layer on top of it.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    dict of str to object
        Arguments for napari's ``add_...`` methods.
    """
    if layer.ndim > 2:
        # A layer on a stack lies in its last two axes.
        return {
            "scale": layer.scale[-2:],
            "translate": layer.translate[-2:],
            "rotate": np.asarray(layer.rotate)[-2:, -2:],
            "affine": layer.affine.set_slice([layer.ndim - 2, layer.ndim - 1]),
            "units": layer.units[-2:],
        }
    return {
        "scale": layer.scale,
        "translate": layer.translate,
        "rotate": layer.rotate,
        "shear": layer.shear,
        "affine": layer.affine,
        "units": layer.units,
    }


def height_and_width(layer: Image) -> tuple[int, int]:
    """Return the size of the picture at full resolution: the last two axes but that of the colours.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    tuple of int
    """
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    height, width = shape[-3:-1] if layer.rgb else shape[-2:]
    return int(height), int(width)


def image_shape(layer: Image) -> tuple[int, ...]:
    """Return the shape of an image layer at full resolution.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    tuple of int
        Height and width in pixels, and channels if there are any.
    """
    colours = (layer.data[0] if layer.multiscale else layer.data).shape[-1:] if layer.rgb else ()
    return height_and_width(layer) + tuple(int(n) for n in colours)


def box_in_view(layer: Image) -> tuple[float, float, float, float]:
    """Return the box of an image layer that the canvas shows.

    Parameters
    ----------
    layer : napari.layers.Image

    Returns
    -------
    tuple of float
        y0, x0, y1, x1 in pixels at full resolution, half-open.
    """
    corners = np.asarray(layer.corner_pixels, float)[:, -2:]
    if layer.multiscale:
        corners = corners * layer.downsample_factors[layer.data_level][layer.ndim - 2 : layer.ndim]
    (y0, x0), (y1, x1) = corners[0], corners[1] + 1
    return y0, x0, y1, x1


def closed_shapes(layer: Image, shapes: Shapes) -> list[np.ndarray]:
    """Return the closed shapes of a Shapes layer as polygons on an image layer.

    Parameters
    ----------
    layer : napari.layers.Image
    shapes : napari.layers.Shapes
        Lines and paths are left out.

    Returns
    -------
    list of numpy.ndarray, (K, 2)
        Corners y, x in pixels of the image layer.
    """
    polygons = []
    for corners, kind in zip(shapes.data, shapes.shape_type, strict=True):
        if kind in ("line", "path"):
            continue
        if kind == "ellipse":
            points = _ellipse(corners[:, -2:])
            corners = np.concatenate([np.repeat(corners[:1, :-2], len(points), axis=0), points], axis=1)
        polygons.append(np.array([layer.world_to_data(shapes.data_to_world(point)) for point in corners]))
    return [polygon[:, -2:] for polygon in polygons]


def _ellipse(corners: np.ndarray) -> np.ndarray:
    """Return points on the ellipse in a rectangle, which is given by its corners and may be rotated."""
    centre = corners.mean(axis=0)
    angle = np.linspace(0, 2 * np.pi, _ELLIPSE_POINTS, endpoint=False)[:, None]
    half = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    array: np.ndarray = centre + np.cos(angle) * half[0] + np.sin(angle) * half[1]
    return array
