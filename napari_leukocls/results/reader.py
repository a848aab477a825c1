"""Results read back from their folder: one field with its image, the count of any slide, or the labels for napari."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tifffile

from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.io.labels import LabelReader
from napari_leukocls.io.serialise import original_text
from napari_leukocls.measurement.differential import unsigned
from napari_leukocls.measurement.findings import measured, read_findings
from napari_leukocls.measurement.fine import FINE_CLASS, PREDICTED_FINE, count_cells, fine_classes_of
from napari_leukocls.measurement.red_cell_table import read_red_cells
from napari_leukocls.results.hidden_parts import read_hidden
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.illumination import even_out
from napari_leukocls.segmentation.stain_density import red_cell_density
from napari_leukocls.types import (
    CELL_KINDS,
    FieldResult,
    Light,
    Scale,
    Segmentation,
    SlideResult,
    SmearImage,
)

LABELS, CELLS, RUN = "labels.tif", "cells.csv", "run.json"
#: Folder of the fields' own results within the slide's.
FIELDS = "fields"

_TEXTS = ("slide_id", "class", "review_reason", "predicted_class", "corrected_class", "reviewer")
_NEEDED = (*_TEXTS, "cell_id", "needs_review", "bbox_y0")
#: Texts that not all tables have.
_MORE_TEXTS = ("field", FINE_CLASS, PREDICTED_FINE)


def read_result(folder: str | Path, image: SmearImage | None = None) -> FieldResult:
    """Read the results of one field together with its image.

    Parameters
    ----------
    folder : path-like
        As ``leukocls analyze`` writes it for one field.
    image : SmearImage, optional
        The analysed image. By default it is read from the path that ``run.json`` names.

    Returns
    -------
    FieldResult
        Cell ids may have gaps, where cells were deleted by hand.

    Raises
    ------
    InputError
        If a file is missing or damaged, if the image is gone or does not fit, or if the results are those of a
        whole slide or of several fields.
    """
    path = Path(folder)
    labels, cells = read_outlines(path)
    run = read_run(path)
    if isinstance(labels, list):
        raise InputError(
            f"'{path}' holds the results of a whole slide: open its labels.tif in napari with File > Open."
        )
    missing = [name for name in _NEEDED if name not in cells]
    if missing:
        raise InputError(f"the cells.csv in '{path}' has no column {missing[0]}; analyse the slide again.")
    slide_id = str(run.get("slide_id") or path.name)
    if image is None:
        image = _image_of(run, slide_id, labels.shape)
    if image.pixels.shape[:2] != labels.shape:
        raise InputError(
            f"the image '{image.source}' is not the one of the results in '{path}' "
            f"({image.pixels.shape[1]} x {image.pixels.shape[0]} pixels instead of "
            f"{labels.shape[1]} x {labels.shape[0]}): analyse it again."
        )
    try:
        scale = _scale(run["scale"])
        light = _light(run.get("light"))
        counts = _count(cells, run, slide_id)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged_run(path, error) from error
    pixels = even_out(np.asarray(image.pixels), light)
    kinds, glass = _kinds(cells, int(labels.max(initial=0))), _glass(pixels, labels)
    density = red_cell_density(pixels, labels, kinds[:, CELL_KINDS.index("red_cell")], glass)
    outlines, heaps = read_hidden(path)
    segmentation = Segmentation(labels, kinds, glass, scale, (), density, light, outlines, heaps)
    warnings = tuple(str(one) for one in run.pop("warnings", []))
    state, findings = unsigned(cells), measured(read_findings(path))
    red_cells = read_red_cells(path)
    return FieldResult(
        cells,
        counts,
        run,
        warnings,
        signature=state,
        findings=findings,
        red_cells=red_cells,
        image=image,
        segmentation=segmentation,
    )


def read_fields(folder: str | Path) -> list[FieldResult]:
    """Read the results of a slide of one field or of several, with their images.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    list of FieldResult
        In the order in which they were counted.

    Raises
    ------
    InputError
        If a file is missing or damaged, or if an image is gone or does not fit.
    """
    path = Path(folder)
    if not (path / FIELDS).is_dir():
        return [read_result(path)]
    names = read_run(path).get("fields")
    if not isinstance(names, list) or not names:
        raise _damaged_run(path, KeyError("fields"))
    return [read_result(path / FIELDS / str(name)) for name in names]


def read_slide(folder: str | Path) -> SlideResult:
    """Read the cells, the count and the run of any slide: one field, several fields, or a whole slide.

    Parameters
    ----------
    folder : path-like
        As ``leukocls analyze`` writes it.

    Returns
    -------
    SlideResult

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    path = Path(folder)
    cells, run = read_cells(path), read_run(path)
    slide_id = str(run.get("slide_id") or path.name)
    try:
        # Each field of a slide of several fields has a scale of its own.
        um_per_px = run["um_per_px"][-1] if "fields" in run else run["scale"]["um_per_px"]
        counts = _count(cells, run, slide_id)
        um = float("nan") if um_per_px is None else float(um_per_px)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _damaged_run(path, error) from error
    warnings = tuple(str(one) for one in run.pop("warnings", []))
    source, state, findings = str(run.get("source", "")), unsigned(cells), measured(read_findings(path))
    found = SlideResult(
        slide_id, source, um, cells, counts, run, warnings, signature=state, findings=findings
    )
    return replace(found, red_cells=read_red_cells(path))


def read_outlines(folder: str | Path) -> tuple[np.ndarray | list[LabelReader], pd.DataFrame]:
    """Read the label image and the cells of a field or of a whole slide.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    labels : numpy.ndarray, (H, W), int32, or list of LabelReader
        Of a whole slide: the levels of the pyramid, finest first, which are read piece by piece.
    cells : pandas.DataFrame
        Sorted by ``cell_id``; ids may have gaps.

    Raises
    ------
    InputError
        If a file is missing or damaged, or if the cells are not those of the labels. (The labels of a whole
        slide are not compared: that would read all of them.)
    """
    path = Path(folder)
    labels: np.ndarray | list[LabelReader]
    try:
        with tifffile.TiffFile(path / LABELS) as file:
            levels = len(file.series[0].levels) if file.series else 1
        if levels > 1:
            labels = [LabelReader(path / LABELS, level) for level in range(levels)]
        else:
            labels = np.asarray(tifffile.imread(path / LABELS), np.int32)
    except FileNotFoundError as error:
        raise _missing(path, error) from error
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    cells = read_cells(path)
    ids = set(cells["cell_id"])
    fits = min(ids, default=1) >= 1 and len(ids) == len(cells)
    if fits and isinstance(labels, np.ndarray):
        fits = labels.ndim == 2 and ids == set(np.unique(labels).tolist()) - {0}
    if not fits:
        raise InputError(f"the cells.csv in '{path}' does not fit its labels.tif; analyse the slide again.")
    return labels, cells.sort_values("cell_id", kind="stable", ignore_index=True)


def read_cells(folder: str | Path) -> pd.DataFrame:
    """Read ``cells.csv``.

    Parameters
    ----------
    folder : path-like

    Returns
    -------
    pandas.DataFrame
        Columns as in the file; texts that are empty are "".

    Raises
    ------
    InputError
        If the file is missing or damaged, or if it has no column ``cell_id``.
    """
    path = Path(folder)
    try:
        # As `table_bytes` writes it: only an empty entry is no value, and names of files may be any bytes.
        cells = pd.read_csv(
            path / CELLS,
            dtype=dict.fromkeys((*_TEXTS, *_MORE_TEXTS), str),
            keep_default_na=False,
            na_values=[""],
            encoding_errors="surrogateescape",
        )
        cells["cell_id"] = cells["cell_id"].astype(np.int32)
    except FileNotFoundError as error:
        raise _missing(path, error) from error
    except KeyError as error:
        raise InputError(
            f"the cells.csv in '{path}' has no column cell_id; analyse the slide again."
        ) from error
    except (OSError, ValueError, OverflowError) as error:
        raise _unreadable(path, error) from error
    for name in (*_TEXTS, *_MORE_TEXTS):
        if name in cells:
            cells[name] = cells[name].fillna("").map(original_text).astype(object)
    return cells


def _image_of(run: dict[str, Any], slide_id: str, shape: tuple[int, ...]) -> SmearImage:
    """The image that was analysed: the same plane, turned as it was then."""
    settings = run.get("settings")
    plane = settings.get("plane", "first") if isinstance(settings, dict) else "first"
    source = str(run.get("source", ""))
    try:
        image = read_image(source, slide_id, plane)
        if image.pixels.shape[:2] == shape[::-1] != shape:
            # The window analyses a picture as napari shows it, which does not turn it upright.
            image = read_image(source, slide_id, plane, turned=False)
    except ArgumentError as error:
        raise InputError(
            f"the run.json of {slide_id} is damaged ({error}); analyse the slide again."
        ) from error
    return image


def read_run(path: Path) -> dict[str, Any]:
    """Read the record of an analysis.

    Parameters
    ----------
    path : Path
        Folder of a slide.

    Returns
    -------
    dict
        The content of ``run.json``.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        run = json.loads((path / RUN).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise _missing(path, error) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(run, dict):
        raise _unreadable(path, TypeError("run.json is not a JSON object"))
    return run


def _missing(path: Path, error: FileNotFoundError) -> InputError:
    what = Path(str(error.filename)).name
    return InputError(
        f"'{path}' has no {what}: give the results of one analysed field (of a slide of several fields, "
        "one of its folders under 'fields')."
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"the results in '{path}' cannot be read ({error}); analyse the slide again.")


def _damaged_run(path: Path, error: Exception) -> InputError:
    return InputError(f"the run.json in '{path}' is damaged ({error!r}): analyse the slide again.")


def _count(cells: pd.DataFrame, run: dict[str, Any], slide_id: str) -> pd.DataFrame:
    classes = [str(name) for name in run["classifier"]["classes"]]
    return count_cells(cells, default_scheme(), classes, fine_classes_of(run), slide_id=slide_id)


def _scale(record: dict[str, Any]) -> Scale:
    return Scale(
        float(record["um_per_px"]),
        float(record["red_cell_diameter_px"]),
        record["source"],
        int(record.get("n_cells", 0)),
        float(record.get("spread") or 0.0),
        bool(record.get("sure", True)),
        float(record.get("octaves") or 0.0),
        int(record.get("n_images") or 0),
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
    y0, x0, y1, x1 = (int(value) for value in record["box"])
    coefficients = tuple(float(value) for value in record["coefficients"])
    return Light(coefficients, float(record["fall"]), float(record["surround"]), (y0, x0, y1, x1))


def _glass(pixels: np.ndarray, labels: np.ndarray) -> tuple[float, float, float]:
    """Median colour of what is no cell; nan where there is too little of it."""
    empty = pixels[labels == 0]
    if len(empty) < 100:
        return (float("nan"),) * 3
    red, green, blue = np.median(empty[:: max(1, len(empty) // 100_000)], axis=0)
    return float(red), float(green), float(blue)


__all__ = ["read_cells", "read_fields", "read_outlines", "read_result", "read_run", "read_slide"]
