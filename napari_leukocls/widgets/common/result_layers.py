"""From results to labels layers, with the classes as features and colours. No Qt."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from napari.utils.colormaps import label_colormap as napari_colormap

from napari_leukocls.measurement.fine import CLASSES, FINE, depth_of, shown_classes
from napari_leukocls.scheme import NOT_TOLD_APART, Scheme, default_scheme
from napari_leukocls.types import FieldResult, SmearImage
from napari_leukocls.widgets.common.outlines import CLEAR, RGBA, cell_colours
from napari_leukocls.widgets.common.slide_model import awaiting_review

if TYPE_CHECKING:
    from napari.layers import Labels

LayerData = tuple[Any, dict[str, Any], str]

#: Key of the result in the metadata of a labels layer.
METADATA_KEY = "leukocls"
#: Keys in the metadata of an image layer: the name of the slide that it is a field of, and its result.
CASE_KEY, RESULT_KEY = "leukocls_case", "leukocls_result"
#: Key that stands in the metadata of a labels layer while a blind read hides its classes.
BLIND_KEY = "leukocls_blind"
#: Largest label with a colour of its own; a limit of napari.
MAX_COLOURED = 65_000
_UNKNOWN: RGBA = (0.5, 0.5, 0.5, 1.0)


class ClassName(str):
    """The name of a class that the status bar shows in words: napari makes a text of what belongs to the cell there."""

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

    def __str__(self) -> str:
        return self.words

    def __format__(self, spec: str) -> str:
        return format(self.words, spec)


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
    ids = cells["cell_id"].to_numpy(int)
    classes = cells["class"].to_numpy(object)
    columns = {
        "class": _in_words(classes),
        **({"finer": _in_words(shown_classes(cells))} if depth == FINE else {}),
        "probability": cells["probability"].to_numpy(float).round(3),
        "review": np.where(awaiting_review(cells), cells["review_reason"].to_numpy(object), ""),
        "corrected": _in_words(cells["corrected_class"].fillna("").to_numpy(object)),
        "size": _sizes(cells["area_um2"].to_numpy(float)),
    }
    features: dict[str, Any] = {"index": np.arange(top + 1)}
    for name, values in columns.items():
        numbers = values.dtype.kind == "f"
        # None and not NaN: the status bar does not show None.
        row = np.full(top + 1, np.nan) if numbers else np.full(top + 1, None, object)
        row[ids] = values if numbers else np.where(values == "", None, values)
        # As a series: pandas makes texts, and NaN of None, of an array of objects.
        features[name] = pd.Series(row, dtype=row.dtype)
    return pd.DataFrame(features)


def _in_words(names: np.ndarray) -> np.ndarray:
    """The names of classes as the status bar shows them; "" stays."""
    scheme = default_scheme()
    words: dict[object, object] = {name: ClassName(str(name), scheme) if name else "" for name in set(names)}
    array: np.ndarray = np.array([words[name] for name in names] + [None], object)[:-1]
    return array


def _sizes(areas_um2: np.ndarray) -> np.ndarray:
    """The diameters of the circles with the areas of cells, in words; "" where there is no area."""
    known = np.isfinite(areas_um2)
    diameters = np.rint(2 * np.sqrt(np.where(known, areas_um2, 0) / math.pi)).astype(int)
    words = np.array([f"{n} µm across" for n in range(int(diameters.max(initial=0)) + 1)], object)
    array: np.ndarray = np.where(known, words[diameters], "")
    return array


def _inks(
    cells: pd.DataFrame, scheme: Scheme, shown: Collection[int] | None, depth: str
) -> tuple[np.ndarray, list[RGBA]]:
    """The colour of each cell, as an index into a list of colours, and that list."""
    palette = [CLEAR, _UNKNOWN]
    places = {}
    for entry in scheme:
        red, green, blue = (channel / 255 for channel in entry.rgb)
        places[entry.name] = places[entry.name + NOT_TOLD_APART] = len(palette)
        palette.append((red, green, blue, 1.0))
    inks = np.array([places.get(name, 1) for name in shown_classes(cells, depth)], int)
    if shown is not None:
        inks[~np.isin(cells["cell_id"].to_numpy(), list(shown))] = 0
    return inks, palette


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
        Cells that are not shown are transparent.
    """
    if len(cells) and int(cells["cell_id"].max()) > MAX_COLOURED:
        return napari_colormap()
    inks, palette = _inks(cells, scheme, shown, depth)
    return cell_colours(cells["cell_id"].to_numpy(int), inks, palette, _UNKNOWN)


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
    layer.colormap = cell_colours(np.empty(0, int), np.empty(0, int), [], _UNKNOWN)
    layer.metadata[BLIND_KEY] = True
    # napari makes no new thumbnail of a layer that is not visible.
    layer.thumbnail = np.zeros_like(layer.thumbnail)


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
