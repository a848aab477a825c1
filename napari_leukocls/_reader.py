"""What napari opens: fields, folders of fields, whole slides, and the results of an analysis. No Qt."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
from dask.delayed import delayed

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import is_picture, plane_axes, read_image
from napari_leukocls.io.labels import LabelReader
from napari_leukocls.io.slides import is_slide, open_slide
from napari_leukocls.io.slides.base import LazyPixels
from napari_leukocls.results.reader import CELLS, FIELDS, LABELS, read_fields, read_outlines, read_run
from napari_leukocls.widgets.common.result_layers import CASE_KEY, RESULT_KEY, layer_options, result_layers

LayerData = tuple[Any, dict[str, Any], str]

PathOrPaths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: Side of the pieces of a slide that are decoded together, pixels.
_CHUNK = 1024


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """Choose the reader of a path.

    It may be a field, a whole slide, a folder of fields, or results: a folder, ``labels.tif`` or ``cells.csv``.

    Parameters
    ----------
    path : path-like or sequence of path-like

    Returns
    -------
    callable or None
        None where this plugin reads no such file.
    """
    given = _several(path)
    if given and all(_results_folder(one) is not None for one in given):
        return read_results
    return read_images if given and all(_pictures(one) for one in given) else None


def _pictures(path: str | os.PathLike[str]) -> list[Path]:
    """The fields that a path stands for: a file, or the files of a folder, which are one slide."""
    given = Path(path)
    if is_slide(given) or (not given.is_dir() and is_picture(given)):
        return [given]
    if not given.is_dir():
        return []
    return [one for one in sorted(given.iterdir()) if one.is_file() and not is_slide(one) and is_picture(one)]


def read_images(path: PathOrPaths) -> list[LayerData]:
    """Open fields as the analysis reads them, and whole slides as multiscale images of which only parts are decoded.

    The fields of a folder have its name in their metadata: they are one slide.

    Parameters
    ----------
    path : path-like or sequence of path-like

    Returns
    -------
    list of layer data tuples

    Raises
    ------
    InputError
        If a file is damaged, no image, or needs a package that is not installed.
    """
    found = []
    for one in _several(path):
        for file in _pictures(one) or [Path(one)]:
            data, options, kind = _slide_layer(file) if is_slide(file) else _field_layer(file)
            if file != Path(one):
                options["metadata"][CASE_KEY] = Path(one).name
            found.append((data, options, kind))
    return found


def _field_layer(path: str | os.PathLike[str]) -> LayerData:
    """A field; a stack has one axis more, and its planes are read when they are shown."""
    first = read_image(path)
    settings = {"name": Path(path).name, "rgb": True, **layer_scale(first.um_per_px)}
    planes = math.prod(n for axis, n in plane_axes(path) if axis != "C")
    if planes == 1:
        notes = {"source": first.source, "notes": first.notes}
        return first.pixels, {**settings, "metadata": notes}, "image"
    shape = (1, *first.pixels.shape)
    read = [
        dask.array.from_delayed(delayed(_plane)(path, number), shape, np.uint8)
        for number in range(1, planes + 1)
    ]
    if "scale" in settings:
        settings |= {"scale": (1.0, *settings["scale"]), "units": ("um",) * 3}
    return dask.array.concatenate(read), {**settings, "metadata": {"source": first.source}}, "image"


def _plane(path: str | os.PathLike[str], number: int) -> np.ndarray:
    return read_image(path, plane=number).pixels[None]


def _slide_layer(path: str | os.PathLike[str]) -> LayerData:
    slide = open_slide(path)
    levels = [_lazy(LazyPixels(slide, number)) for number in range(len(slide.levels))]
    settings = {
        "name": Path(path).name,
        "rgb": True,
        "metadata": {"source": slide.source, "notes": slide.notes},
        **layer_scale(slide.um_per_px),
    }
    return levels if len(levels) > 1 else levels[0], {**settings, "multiscale": len(levels) > 1}, "image"


def _lazy(level: LazyPixels | LabelReader) -> Any:
    """A level as a dask array whose pieces are decoded when they are shown."""
    # A decoder keeps a position in the file, so pieces are read one at a time.
    chunks = (_CHUNK, _CHUNK, *level.shape[2:])
    return dask.array.from_array(level, chunks=chunks, lock=True, asarray=True, name=False)


def read_results(path: PathOrPaths) -> list[LayerData]:
    """Read analysed smears: of a folder the images with the cells over them, of a file the cells alone.

    A folder of several fields gives the layers of each. The docks take the images with their results as one slide.

    The features of the cells have one row for each label value, the background first. A value without a cell (the
    cell was deleted) has an empty row. The column ``index`` holds the value: napari's status bar looks there.

    Parameters
    ----------
    path : path-like or sequence of path-like

    Returns
    -------
    list of layer data tuples

    Raises
    ------
    InputError
        If a file is missing or damaged, or the table does not fit the labels.
    """
    found: list[LayerData] = []
    for one in dict.fromkeys(Path(given) for given in _several(path)):
        folder = _results_folder(one)
        if folder is not None:
            found += _case_layers(folder) if one.is_dir() else [_labels_layer(folder)]
    return found


def _case_layers(folder: Path) -> list[LayerData]:
    """The images of a slide with their cells; the cells alone where an image is gone or is a whole slide."""
    try:
        results = read_fields(folder)
    except InputError as error:
        if not (folder / LABELS).is_file():
            raise
        if not _is_of_a_whole_slide(folder):
            warnings.warn(f"only the cells are shown: {error}", stacklevel=2)
        return [_labels_layer(folder)]
    layers: list[LayerData] = []
    for result in results:
        options = layer_options(result.image)
        options["metadata"] |= {CASE_KEY: folder.name, RESULT_KEY: result}
        placement = layer_scale(result.image.um_per_px)
        # The docks draw outlines; without them the cells are filled, and the image is seen through them.
        data, cells, kind = result_layers(result, options["name"], None, **placement)[0]
        layers += [(result.image.pixels, options, "image"), (data, {**cells, "opacity": 0.5}, kind)]
    return layers


def _is_of_a_whole_slide(folder: Path) -> bool:
    try:
        return "slide" in read_run(folder)
    except InputError:
        return False


def layer_scale(um_per_px: float | None) -> dict[str, Any]:
    """Describe the pixel size to a layer.

    Parameters
    ----------
    um_per_px : float or None
        Micrometres per pixel.

    Returns
    -------
    dict
        ``scale`` and ``units``; empty where the size is not known.
    """
    return {} if um_per_px is None else {"scale": (um_per_px,) * 2, "units": ("um", "um")}


def _several(path: PathOrPaths) -> list[str | os.PathLike[str]]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)


def _results_folder(path: str | os.PathLike[str]) -> Path | None:
    """Folder of a slide's results that a path stands for, where both of its files are there."""
    given = Path(path)
    folder = given if given.is_dir() else given.parent
    if not given.is_dir() and given.name not in (LABELS, CELLS):
        return None
    if given.is_dir() and (folder / CELLS).is_file() and (folder / FIELDS).is_dir():
        return folder
    return folder if (folder / LABELS).is_file() and (folder / CELLS).is_file() else None


def _labels_layer(folder: Path) -> LayerData:
    outlines, cells = read_outlines(folder)
    labels = [_lazy(level) for level in outlines] if isinstance(outlines, list) else outlines
    # Of a whole slide only the coarser levels could be read through, and these lack small cells.
    top = int(cells["cell_id"].max()) if len(cells) else 0
    features = cells.set_index("cell_id").reindex(range(top + 1)).reset_index(names="index")
    # None, not "": napari's status bar leaves out what is None.
    for name in features:
        if not pd.api.types.is_numeric_dtype(features[name]):
            column = features[name].astype(object)
            features[name] = column.where(column.notna() & (column != ""), None)
    return labels, {"name": f"{folder.name} cells", "features": features, "opacity": 0.5}, "labels"
