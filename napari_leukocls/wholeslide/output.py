"""The files of a whole slide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.explanation import for_report
from napari_leukocls.io.label_store import LabelReader, write_pyramid
from napari_leukocls.types import SmearResult
from napari_leukocls.wholeslide.picture import slide_overlay
from napari_leukocls.wholeslide.survey import Survey
from napari_leukocls.wholeslide.tiles import Ground

if TYPE_CHECKING:
    import pandas as pd


def write_files(ground: Ground, result: SmearResult, sharp: np.ndarray, folder: Path) -> None:
    """Write what a slide's folder holds beside ``cells.csv``, which is there already."""
    from napari_leukocls.io.overlay import overlay_png
    from napari_leukocls.io.report import render_report
    from napari_leukocls.io.results import run_json, table_bytes
    from napari_leukocls.scheme import default_scheme

    scheme = default_scheme()
    (folder / "counts.csv").write_bytes(table_bytes(result.counts))
    (folder / "regions.csv").write_bytes(table_bytes(_regions(ground, result, sharp)))
    write_pyramid(ground.labels, folder / "labels.tif", ground.scale.um_per_px)
    overlay = slide_overlay(ground, result, scheme)
    (folder / "overlay.png").write_bytes(overlay_png(overlay))
    stored = LabelReader(folder / "labels.tif")
    heatmaps = for_report(result, ground.engine, ground.engine.config.heatmaps, stored)
    report = render_report(result, scheme, overlay, heatmaps)
    (folder / "report.html").write_bytes(report.encode("utf-8", errors="replace"))
    (folder / "run.json").write_text(run_json(result), encoding="utf-8", newline="\n")


def _regions(ground: Ground, result: SmearResult, sharp: np.ndarray) -> pd.DataFrame:
    """One row a part of the slide: where it is, what it is like, and its settled cells by class."""
    import pandas as pd

    from napari_leukocls.measurement.differential import settled

    cells, view = result.cells, ground.survey
    cells = cells[settled(cells)]
    middle_y = (cells["bbox_y0"].to_numpy() + cells["bbox_y1"].to_numpy() - 1) / 2
    middle_x = (cells["bbox_x0"].to_numpy() + cells["bbox_x1"].to_numpy() - 1) / 2
    shape = view.coverage.shape
    row = np.clip(np.searchsorted(view.rows, middle_y, "right") - 1, 0, shape[0] - 1)
    column = np.clip(np.searchsorted(view.columns, middle_x, "right") - 1, 0, shape[1] - 1)
    place = row * shape[1] + column
    data: dict[str, Any] = {"slide_id": ground.slide_id, **_boxes(view)}
    data |= {
        "state": ground.states.ravel(),
        "coverage": view.coverage.ravel(),
        "stain": view.stain.ravel(),
        "sharpness": sharp.ravel(),
    }
    names = cells["class"].astype(str).to_numpy()
    sides = np.diff(view.rows)[:, None] * np.diff(view.columns)[None, :] * ground.scale.um_per_px**2 / 1e6
    inside = result.counts.loc[result.counts["in_differential"], "class"]
    leukocytes = np.bincount(place[np.isin(names, list(inside))], minlength=shape[0] * shape[1])
    data["wbc_per_mm2"] = leukocytes / sides.ravel()
    for name in result.counts["class"]:
        data[f"n_{name}"] = np.bincount(place[names == name], minlength=shape[0] * shape[1])
    return pd.DataFrame(data)


def _boxes(view: Survey) -> dict[str, np.ndarray]:
    shape = view.coverage.shape
    return {
        "y0": np.repeat(view.rows[:-1], shape[1]),
        "x0": np.tile(view.columns[:-1], shape[0]),
        "y1": np.repeat(view.rows[1:], shape[1]),
        "x1": np.tile(view.columns[1:], shape[0]),
    }
