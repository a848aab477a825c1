"""What napari opens: the bundled smears, and the results of an analysis. No Qt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.resources import sample_smear

LayerData = tuple[Any, dict[str, Any], str]
PathOrPaths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_LABELS = "labels.tif"
_CELLS = "cells.csv"


def sample_normal() -> list[LayerData]:
    """The synthetic smear with a normal differential."""
    return _sample("synthetic_teaching_normal")


def sample_left_shift() -> list[LayerData]:
    """The synthetic smear with immature granulocytes."""
    return _sample("synthetic_teaching_left_shift")


def sample_eosinophilia() -> list[LayerData]:
    """The synthetic smear with many eosinophils."""
    return _sample("synthetic_teaching_eosinophilia")


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """The reader of a smear's results, for its folder, its ``labels.tif`` or its ``cells.csv``; else None."""
    folders = [_results_folder(one) for one in _several(path)]
    return read_results if folders and all(folder is not None for folder in folders) else None


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


def _sample(name: str) -> list[LayerData]:
    image = read_image(sample_smear(name))
    scale = {} if image.um_per_px is None else {"scale": (image.um_per_px,) * 2, "units": ("um", "um")}
    return [
        (image.pixels, {"name": name, "rgb": True, "metadata": {"source": image.source}, **scale}, "image")
    ]


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
    import pandas as pd
    import tifffile

    try:
        labels = tifffile.imread(folder / _LABELS)
        cells = pd.read_csv(folder / _CELLS, dtype={"slide_id": str, "class": str})
    except (OSError, ValueError) as error:
        raise InputError(
            f"the results in '{folder}' cannot be read ({error}); analyse the smear again."
        ) from error
    if "cell_id" not in cells or set(cells["cell_id"]) != set(range(1, int(labels.max()) + 1)):
        raise InputError(f"the cells.csv in '{folder}' does not fit its labels.tif; analyse the smear again.")
    cells = cells.drop_duplicates("cell_id").set_index("cell_id").reindex(range(int(labels.max()) + 1))
    features = cells.reset_index(names="index")
    return labels, {"name": f"{folder.name} cells", "features": features, "opacity": 0.5}, "labels"
