"""What napari opens and saves: smears, whole slides, the results of an analysis, and their tables. No Qt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dask.array
import pandas as pd
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io.labels import LabelReader
from napari_leukocls.io.slides import is_slide, open_slide
from napari_leukocls.io.slides.base import LazyPixels

LayerData = tuple[Any, dict[str, Any], str]

PathOrPaths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

#: Side of the pieces of a slide that are decoded together, pixels.
_CHUNK = 1024
_LABELS = "labels.tif"

_CELLS = "cells.csv"


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """The reader of a whole slide, or of a smear's results (folder, ``labels.tif`` or ``cells.csv``)."""
    given = _several(path)
    if given and all(_results_folder(one) is not None for one in given):
        return read_results
    return read_slides if given and all(is_slide(one) for one in given) else None


def read_slides(path: PathOrPaths) -> list[LayerData]:
    """Open whole slides as multiscale images, of which only what is seen is decoded.

    Raises
    ------
    InputError
        Where one is damaged, or needs a package that is not there.
    """
    return [_slide_layer(one) for one in _several(path)]


def _slide_layer(path: str | os.PathLike[str]) -> LayerData:
    slide = open_slide(path)
    levels = [_lazy(LazyPixels(slide, number)) for number in range(len(slide.levels))]
    scale = {} if slide.um_per_px is None else {"scale": (slide.um_per_px,) * 2, "units": ("um", "um")}
    settings = {"name": Path(path).name, "rgb": True, "metadata": {"source": slide.source}, **scale}
    return levels if len(levels) > 1 else levels[0], {**settings, "multiscale": len(levels) > 1}, "image"


def _lazy(pixels: LazyPixels) -> Any:
    """A level as a dask array whose pieces are decoded when they are looked at."""
    # Decoders keep a place in the file: one piece at a time.
    return dask.array.from_array(pixels, chunks=(_CHUNK, _CHUNK, 3), lock=True, asarray=True, name=False)


def read_results(path: PathOrPaths) -> list[LayerData]:
    """Read analysed smears as labels layers whose features are the rows of ``cells.csv``.

    The features have one row per label value with the background first, and name the label in ``index``:
    that is where napari's status bar looks.

    Raises
    ------
    InputError
        Where a file is missing or damaged, or the table does not fit the labels.
    """
    folders = dict.fromkeys(folder for one in _several(path) if (folder := _results_folder(one)))
    return [_labels_layer(folder) for folder in folders]


def layer_scale(um_per_px: float | None) -> dict[str, Any]:
    return {} if um_per_px is None else {"scale": (um_per_px,) * 2, "units": ("um", "um")}


def _several(path: PathOrPaths) -> list[str | os.PathLike[str]]:
    return [path] if isinstance(path, str | os.PathLike) else list(path)


def _results_folder(path: str | os.PathLike[str]) -> Path | None:
    """Folder of a slide's results that a path stands for, where both of its files are there."""
    given = Path(path)
    folder = given if given.is_dir() else given.parent
    if not given.is_dir() and given.name not in (_LABELS, _CELLS):
        return None
    return folder if (folder / _LABELS).is_file() and (folder / _CELLS).is_file() else None


def _labels_layer(folder: Path) -> LayerData:
    try:
        with tifffile.TiffFile(folder / _LABELS) as file:
            pyramid = len(file.series[0].levels)
        labels: Any = _lazy_labels(folder, pyramid) if pyramid > 1 else tifffile.imread(folder / _LABELS)
        cells = pd.read_csv(folder / _CELLS, dtype={"slide_id": str, "class": str})
    except (OSError, ValueError) as error:
        raise InputError(
            f"the results in '{folder}' cannot be read ({error}); analyse the smear again."
        ) from error
    # The labels of a whole slide are not read through for this: its smaller levels lack small cells.
    top = int(labels.max()) if pyramid == 1 else len(cells)
    if "cell_id" not in cells or set(cells["cell_id"]) != set(range(1, top + 1)):
        raise InputError(f"the cells.csv in '{folder}' does not fit its labels.tif; analyse the smear again.")
    cells = cells.drop_duplicates("cell_id").set_index("cell_id").reindex(range(top + 1))
    features = cells.reset_index(names="index")
    return labels, {"name": f"{folder.name} cells", "features": features, "opacity": 0.5}, "labels"


def _lazy_labels(folder: Path, levels: int) -> list[Any]:
    """The levels of a pyramid of labels, read piece by piece."""
    return [
        dask.array.from_array(
            LabelReader(folder / _LABELS, level), chunks=(_CHUNK, _CHUNK), lock=True, asarray=True, name=False
        )
        for level in range(levels)
    ]
