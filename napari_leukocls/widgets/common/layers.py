"""From image layers to images, and from results to labels layers. No Qt."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import npe2
import numpy as np
import pandas as pd
from napari.layers import Image
from napari.utils.colormaps import label_colormap as napari_colormap

from napari_leukocls.errors import InputError
from napari_leukocls.io.convert import array_to_smear
from napari_leukocls.io.images import plane_axes
from napari_leukocls.io.inputs import safe_id
from napari_leukocls.io.planes import take_plane
from napari_leukocls.io.slides import read_smear
from napari_leukocls.measurement.fine import CLASSES, FINE, depth_of, shown_classes
from napari_leukocls.scheme import NOT_TOLD_APART, Scheme, default_scheme
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX, FieldResult, SmearImage
from napari_leukocls.widgets.common.outlines import cell_colours
from napari_leukocls.widgets.common.slide_model import awaiting_review
from napari_leukocls.widgets.common.units import own_units

if TYPE_CHECKING:
    from napari.layers import Labels, Shapes

LayerData = tuple[Any, dict[str, Any], str]

#: Key of the result in the metadata of a labels layer.
METADATA_KEY = "leukocls"
#: Keys in the metadata of an image layer: the name of the slide that it is a field of, and its result.
CASE_KEY, RESULT_KEY = "leukocls_case", "leukocls_result"
#: Key that stands in the metadata of a labels layer while a blind read hides its classes.
BLIND_KEY = "leukocls_blind"
#: Largest label with a colour of its own; a limit of napari.
MAX_COLOURED = 65_000
#: Pixels of the largest image that is copied into memory.
MAX_WINDOW_PIXELS = 100_000_000
# Plugins whose layers are traced back to their file.
_PLUGIN, _NAPARI = "napari-leukocls", "napari"
_UNKNOWN = (0.5, 0.5, 0.5, 1.0)

_TRANSPARENT = (0.0, 0.0, 0.0, 0.0)

_ELLIPSE_POINTS = 64

_UM = {"um": 1.0, "micrometer": 1.0, "micrometre": 1.0, "nm": 1e-3, "nanometer": 1e-3, "mm": 1e3}


class ClassName(str):
    """The name of a class that the status bar shows in words: napari formats what belongs to the cell there."""

    words: str

    def __new__(cls, name: str, scheme: Scheme) -> ClassName:
        """Make the name of a class.

        Parameters
        ----------
        name : str
        scheme : Scheme
            With its display name.
        """
        made = super().__new__(cls, name)
        made.words = scheme[name].display if name in scheme else name
        return made

    def __format__(self, spec: str) -> str:
        return format(self.words, spec)


def _in_words(name: object) -> ClassName | None:
    return ClassName(str(name), default_scheme()) if isinstance(name, str) and name else None


def cell_features(cells: pd.DataFrame, top: int, depth: str = CLASSES) -> pd.DataFrame:
    """Make the features of a labels layer: row i belongs to label i, and row 0 to the background.

    There are few columns, since the status bar shows all of them for the cell under the cursor. A label without
    a cell has an empty row.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    top : int
        Largest label.
    depth : {"classes", "fine"}
        At the latter there is a column ``finer`` with the finest class that is known.

    Returns
    -------
    pandas.DataFrame
    """
    shown = pd.DataFrame(
        {
            "class": cells["class"].astype(object),
            **({"finer": shown_classes(cells)} if depth == FINE else {}),
            "probability": cells["probability"].astype(float).round(3),
            "review": cells["review_reason"].where(awaiting_review(cells), "").map(lambda text: text or None),
            "corrected": cells["corrected_class"].fillna("").map(lambda text: text or None),
            "size": [_size(area) for area in cells["area_um2"].astype(float)],
        }
    )
    shown.index = pd.Index(cells["cell_id"].to_numpy(), name="index")
    features = shown.reindex(range(top + 1)).reset_index()
    # None and not NaN: the status bar does not show None.
    features["size"] = features["size"].astype(object).where(features["size"].notna(), None)
    for name in ("class", "review", "corrected", *(("finer",) if depth == FINE else ())):
        values = features[name].astype(object).where(features[name].notna(), None)
        if name != "review":
            words = {value: _in_words(value) for value in set(values)}
            values = pd.Series([words[value] for value in values], index=values.index, dtype=object)
        features[name] = values
    return features


def _size(area_um2: float) -> str | None:
    """The diameter of the circle with the area of a cell, in words."""
    return f"{2 * math.sqrt(area_um2 / math.pi):.0f} µm across" if math.isfinite(area_um2) else None


def colours(
    cells: pd.DataFrame, scheme: Scheme, shown: Collection[int] | None = None, depth: str = CLASSES
) -> dict[int | None, tuple[float, float, float, float]]:
    """Return the colour of each label by the class of its cell.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    scheme : Scheme
        The class scheme, with names and colours.
    shown : collection of int or None
        Numbers of the cells that are coloured; None for all cells.
    depth : {"classes", "fine"}
        How finely the classes are coloured.

    Returns
    -------
    dict[int or None, tuple[float, float, float, float]]
        RGBA, 0 to 1. Cells that are not shown are transparent.
    """
    visible = None if shown is None else set(shown)
    table: dict[int | None, tuple[float, float, float, float]] = {0: _TRANSPARENT, None: _UNKNOWN}
    by_class = {}
    for entry in scheme:
        red, green, blue = (channel / 255 for channel in entry.rgb)
        by_class[entry.name] = (red, green, blue, 1.0)
    by_class |= {name + NOT_TOLD_APART: colour for name, colour in by_class.items()}
    for cell, name in zip(cells["cell_id"].tolist(), shown_classes(cells, depth).tolist(), strict=True):
        hidden = visible is not None and cell not in visible
        table[cell] = _TRANSPARENT if hidden else by_class.get(name, _UNKNOWN)
    return table


def label_colormap(
    cells: pd.DataFrame, scheme: Scheme, shown: Collection[int] | None = None, depth: str = CLASSES
) -> Any:
    """Make the colour map of a labels layer. If there are too many cells for it, napari's own colours are used.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    scheme : Scheme
        The class scheme, with names and colours.
    shown : collection of int or None
        Numbers of the cells that are coloured; None for all cells.
    depth : {"classes", "fine"}
        How finely the classes are coloured.

    Returns
    -------
    napari.utils.colormaps.Colormap
    """
    if len(cells) and int(cells["cell_id"].max()) > MAX_COLOURED:
        return napari_colormap()
    return cell_colours(colours(cells, scheme, shown, depth))


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


def cells_layer_name(image_name: str) -> str:
    """Return the name of the layer that shows the cells of an image layer.

    Parameters
    ----------
    image_name : str
        Name of the image layer.

    Returns
    -------
    str
    """
    return f"{image_name} cells"


def layer_options(image: SmearImage) -> dict[str, Any]:
    """Return the arguments of napari's ``add_image`` for the image of a result.

    Parameters
    ----------
    image : SmearImage

    Returns
    -------
    dict of str to object
    """
    options: dict[str, Any] = {"name": image.slide_id, "rgb": True, "metadata": {"source": image.source}}
    if image.um_per_px is not None:
        options |= {"scale": (image.um_per_px,) * 2, "units": ("um", "um")}
    return options


def result_layers(
    result: FieldResult, name: str | None = None, scheme: Scheme | None = None, **placement: Any
) -> list[LayerData]:
    """Make layers of a result: one labels layer, coloured by class, with the cells as features.

    Parameters
    ----------
    result : FieldResult
    name : str, optional
        Of the image layer; the slide's id by default.
    scheme : Scheme, optional
    **placement
        ``scale``, ``translate``, ``affine``, ``units``... of the image layer.

    Returns
    -------
    list of layer data tuples
    """
    scheme = scheme or default_scheme()
    options = {
        "name": cells_layer_name(name or result.slide_id),
        "features": cell_features(result.cells, _top(result), depth_of(result.run)),
        "colormap": label_colormap(result.cells, scheme, depth=depth_of(result.run)),
        "opacity": 0.9,
        "metadata": {METADATA_KEY: result},
        **placement,
    }
    return [(pixels_of(result.labels), options, "labels")]


def pixels_of(labels: np.ndarray) -> np.ndarray:
    """Copy labels for a layer, which a person may edit; the result keeps its own labels for comparison.

    They have 16 bits if possible: napari colours these on the graphics card, and larger ones pixel by pixel.

    Parameters
    ----------
    labels : numpy.ndarray
        (H, W), int.

    Returns
    -------
    numpy.ndarray
        (H, W), uint16 or int32.
    """
    small = int(labels.max(initial=0)) <= MAX_COLOURED
    return labels.astype(np.uint16 if small else np.int32)


def update_features(layer: Labels, result: FieldResult) -> None:
    """Update the features of a labels layer. Its outlines and colours stay.

    Parameters
    ----------
    layer : napari.layers.Labels
        Changed in place.
    result : FieldResult
    """
    layer.features = cell_features(result.cells, _top(result), depth_of(result.run))
    layer.metadata[METADATA_KEY] = result
    layer.metadata.pop(BLIND_KEY, None)


def hide_classes(layer: Labels) -> None:
    """Take the classes out of a labels layer: out of its colours, its status line and what is saved of it.

    Parameters
    ----------
    layer : napari.layers.Labels
        Changed in place; `update_features` and `label_colormap` bring the classes back.
    """
    layer.visible = False
    layer.features = pd.DataFrame({"index": range(len(layer.features))})
    layer.colormap = cell_colours({None: _UNKNOWN, 0: _TRANSPARENT})
    layer.metadata[BLIND_KEY] = True


def result_of(layer: Any) -> FieldResult | None:
    """Return the result that a layer shows.

    Parameters
    ----------
    layer : napari.layers.Layer

    Returns
    -------
    FieldResult or None
        None if it shows no result.
    """
    found = getattr(layer, "metadata", {}).get(METADATA_KEY)
    return found if isinstance(found, FieldResult) else None


def _top(result: FieldResult) -> int:
    return int(result.cells["cell_id"].max()) if len(result.cells) else 0


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
    height, width = _height_and_width(layer)
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


#: Side of the part of another layer that is looked at for its scale, pixels.
OTHER_SIDE = 1600


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


def _height_and_width(layer: Image) -> tuple[int, int]:
    """Of the picture at full resolution: the last two axes but that of the colours."""
    shape = layer.data[0].shape if layer.multiscale else layer.data.shape
    height, width = shape[-3:-1] if layer.rgb else shape[-2:]
    return int(height), int(width)


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
    if plane is None or smear.pixels.shape[:2] != _height_and_width(layer):
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
    return _height_and_width(layer) + tuple(int(n) for n in colours)


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
