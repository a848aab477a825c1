"""Results that were written before, with their image: what a person can review as if it were just analysed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from napari_leukocls.errors import InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.measurement.differential import differential
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.illumination import as_seen
from napari_leukocls.segmentation.stain_density import red_cell_density
from napari_leukocls.types import CELL_KINDS, FieldResult, Light, Scale, Segmentation, SmearImage

_TEXTS = ("slide_id", "class", "review_reason", "predicted_class", "corrected_class", "reviewer")


def reopen(folder: str | Path, image: SmearImage | None = None) -> FieldResult:
    """Read the results of one slide.

    Parameters
    ----------
    folder : path-like
        As ``leukocls analyze`` writes it for one field.
    image : SmearImage, optional
        By default it is read from where ``run.json`` says that it was.

    Returns
    -------
    FieldResult

    Raises
    ------
    InputError
        Where a file is missing or damaged, the image is gone, or they do not fit each other.
    """
    path = Path(folder)
    labels, cells, run = _files(path)
    slide_id = str(run.get("slide_id") or path.name)
    if image is None:
        image = read_image(str(run.get("source", "")), slide_id)
    if image.pixels.shape[:2] != labels.shape:
        raise InputError(
            f"the image '{image.source}' is not the one of the results in '{path}' "
            f"({image.pixels.shape[1]} x {image.pixels.shape[0]} pixels instead of "
            f"{labels.shape[1]} x {labels.shape[0]}): analyse it again."
        )
    try:
        scale = _scale(run["scale"])
        light = _light(run.get("light"))
        classes = [str(name) for name in run["classifier"]["classes"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the run.json in '{path}' is damaged ({error!r}): analyse the slide again."
        ) from error
    seen = as_seen(np.asarray(image.pixels), light)
    kinds, glass = _kinds(cells, int(labels.max(initial=0))), _glass(seen, labels)
    density = red_cell_density(seen, labels, kinds[:, CELL_KINDS.index("red_cell")], glass)
    segmentation = Segmentation(labels, kinds, glass, scale, (), density, light)
    counts = differential(cells, default_scheme(), classes, slide_id=slide_id)
    warnings = tuple(str(one) for one in run.pop("warnings", []))
    return FieldResult(cells, counts, run, warnings, image=image, segmentation=segmentation)


def _files(path: Path) -> tuple[np.ndarray, pd.DataFrame, dict[str, Any]]:
    try:
        labels = np.asarray(tifffile.imread(path / "labels.tif"), np.int32)
        cells = pd.read_csv(path / "cells.csv", dtype=dict.fromkeys(_TEXTS, str))
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        what = Path(str(error.filename)).name
        raise InputError(
            f"'{path}' has no {what}: give the results of one analysed field (of a slide of several fields, "
            "one of its folders under 'fields')."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(
            f"the results in '{path}' cannot be read ({error}); analyse the slide again."
        ) from error
    missing = [name for name in (*_TEXTS, "cell_id", "needs_review", "bbox_y0") if name not in cells]
    if missing or labels.ndim != 2 or set(cells["cell_id"]) != set(np.unique(labels)) - {0}:
        raise InputError(f"the cells.csv in '{path}' does not fit its labels.tif; analyse the slide again.")
    for name in _TEXTS:
        cells[name] = cells[name].fillna("").astype(object)
    cells["cell_id"] = cells["cell_id"].astype(np.int32)
    return labels, cells.sort_values("cell_id", kind="stable", ignore_index=True), run


def _scale(record: dict[str, Any]) -> Scale:
    return Scale(
        float(record["um_per_px"]),
        float(record["red_cell_diameter_px"]),
        record["source"],
        int(record.get("n_cells", 0)),
        float(record.get("spread") or 0.0),
        bool(record.get("sure", True)),
    )


def _kinds(cells: pd.DataFrame, top: int) -> np.ndarray:
    """Kinds as far as the classes tell them: the segmenter's own are not written."""
    kinds = np.zeros((top, len(CELL_KINDS)), np.float32)
    names = cells["predicted_class"].to_numpy()
    column = np.full(len(cells), CELL_KINDS.index("leukocyte"))
    for kind in ("red_cell", "platelet"):
        column[names == kind] = CELL_KINDS.index(kind)
    kinds[cells["cell_id"].to_numpy() - 1, column] = 1
    return kinds


def _light(record: dict[str, Any] | None) -> Light | None:
    if record is None:
        return None
    y0, x0, y1, x1 = (int(place) for place in record["box"])
    coefficients = tuple(float(value) for value in record["coefficients"])
    return Light(coefficients, float(record["fall"]), float(record["surround"]), (y0, x0, y1, x1))


def _glass(pixels: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Median colour of what is no cell; nan where there is too little of it."""
    empty = pixels[labels == 0]
    if len(empty) < 100:
        return (float("nan"),) * 3
    red, green, blue = np.median(empty[:: max(1, len(empty) // 100_000)], axis=0)
    return float(red), float(green), float(blue)


__all__ = ["reopen"]
