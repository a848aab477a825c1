"""A whole slide, tile by tile."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_leukocls.analysis.engine import Engine, run_record
from napari_leukocls.analysis.whole_slide.survey import (
    BLURRED,
    FOCUS_SAMPLES,
    MIN_SHARPNESS,
    MONOLAYER,
    THICK,
    Survey,
    overview,
    sharpness,
    survey,
)
from napari_leukocls.analysis.whole_slide.tiles import (
    Ground,
    Tile,
    analyse_tile,
    parts_of,
    states_of,
    tiles_of,
)
from napari_leukocls.explanation import for_report
from napari_leukocls.io.atomic import make_folder, replacing_folder
from napari_leukocls.io.labels import LabelReader, LabelStore, write_pyramid
from napari_leukocls.io.serialise import table_bytes
from napari_leukocls.io.slides import open_slide
from napari_leukocls.io.slides.base import LazyPixels, SlideImage
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.differential import count_warnings, differential, settled
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback, drain
from napari_leukocls.results.overlay import MAX_WIDTH, draw_overlay, overlay_png
from napari_leukocls.results.report import render_report
from napari_leukocls.results.writer import run_json
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.segmentation.scale import find_scale
from napari_leukocls.types import FieldResult, Segmentation, SmearImage

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pixel size that is assumed to choose the fields in which the true one is measured, micrometres.
GUESS_UM = 0.15
#: Fields that the ruler is laid on, and their side, pixels.
RULER_FIELDS = 4
RULER_SIDE = 1280

#: What of the table of cells stays in memory: enough to count, and to choose the report's pictures.
KEPT = (
    *("cell_id", "class", "probability", "needs_review", "review_reason", "corrected_class"),
    *("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"),
)
Finish = Callable[[FieldResult, Path], None]


def write_whole_slide(
    path: Path,
    slide_id: str,
    source: str,
    out_dir: Path,
    engine: Engine,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    finish: Finish | None = None,
) -> list[str]:
    """Analyse a whole slide and write ``out_dir/<slide_id>``, whole or not at all.

    Beside the files of a field there is ``regions.csv``: the parts of the slide with their state, stain,
    sharpness and cells.

    Parameters
    ----------
    path : Path
    slide_id, source : str
        What the results quote.
    out_dir : Path
    engine : Engine
    progress, cancel : optional
    finish : callable, optional
        Called with the result and the folder before that gets its name. The result's labels are read from the
        folder as they are cut; its `cells` have the columns `KEPT`, or all where further formats are asked for.

    Returns
    -------
    list of str
        Warnings.

    Raises
    ------
    LeukoclsError
    """
    token = cancel or CancelToken()
    started = time.perf_counter()
    with open_slide(path) as slide, replacing_folder(make_folder(out_dir) / slide_id) as folder:
        slide.source = source
        labels = LabelStore(folder / ".labels.scratch", slide.shape[:2])
        try:
            if progress is not None:
                progress(Progress("survey", 0, 1, "looking over the slide"))
            ground, warnings = _survey(slide, slide_id, engine, labels)
            sharp, tables = _analyse(ground, folder, token, progress, warnings)
            result = _result(ground, tables, warnings, time.perf_counter() - started)
            write_files(ground, result, sharp, folder)
        finally:
            labels.close()
        if finish is not None:
            finish(_as_stored(result, engine, folder), folder)
    return list(result.warnings)


def _as_stored(result: FieldResult, engine: Engine, folder: Path) -> FieldResult:
    """The result with the labels, and where they are needed the rows, that lie in its folder."""
    stored: Any = LabelReader(folder / "labels.tif")
    cells = result.cells
    if engine.config.formats:
        cells = pd.read_csv(folder / "cells.csv")
        for name in ("review_reason", "corrected_class", "reviewer"):
            cells[name] = cells[name].astype(object).where(cells[name].notna(), "")
        cells["slide_id"] = result.slide_id
    return replace(result, cells=cells, segmentation=replace(result.segmentation, labels=stored))


def _survey(slide: SlideImage, slide_id: str, engine: Engine, labels: LabelStore) -> tuple[Ground, list[str]]:
    """Read the scale, and look over the slide."""
    image = SmearImage(LazyPixels(slide), slide_id, slide.source, slide.um_per_px, slide.notes)  # type: ignore[arg-type]
    scale, warnings = find_scale(image, engine.config, engine.compact, lambda: ruler_fields(slide))
    view = survey(slide, scale.um_per_px)
    states = view.states()
    return Ground(slide, slide_id, engine, scale, view, states, labels), [*warnings, *slide.notes]


def ruler_fields(slide: SlideImage) -> list[np.ndarray]:
    """A few sharp fields with cells side by side, to measure red cells in."""
    view = survey(slide, slide.um_per_px or GUESS_UM)
    places = np.argwhere(view.states() == MONOLAYER)
    if len(places) == 0:
        places = np.argwhere(view.coverage > 0)
    if len(places) == 0:
        return [slide.read(0, RULER_SIDE, 0, RULER_SIDE)]
    # As many cells as lie free: those beside half-empty glass.
    order = np.argsort(np.abs(view.coverage[tuple(places.T)] - 0.4), kind="stable")[: 3 * RULER_FIELDS]
    fields = []
    for row, column in places[order]:
        y0, y1, x0, x1 = view.box(int(row), int(column))
        y = max(0, min((y0 + y1 - RULER_SIDE) // 2, slide.shape[0] - RULER_SIDE))
        x = max(0, min((x0 + x1 - RULER_SIDE) // 2, slide.shape[1] - RULER_SIDE))
        fields.append(slide.read(y, y + RULER_SIDE, x, x + RULER_SIDE))
    measured = [sharpness(field, slide.um_per_px or GUESS_UM) for field in fields]
    best = np.argsort(-np.nan_to_num(measured), kind="stable")[:RULER_FIELDS]
    return [fields[index] for index in sorted(best)]


def _usual_sharpness(ground: Ground) -> float:
    """Sharpness of the sharper half of parts that are spread over the monolayer; nan where there are none."""
    places = np.argwhere(ground.states == MONOLAYER)
    chosen = places[np.linspace(0, len(places) - 1, min(FOCUS_SAMPLES, len(places))).round().astype(int)]
    found = [
        sharpness(ground.slide.read(*ground.survey.box(int(row), int(column))), ground.scale.um_per_px)
        for row, column in chosen
    ]
    known = [value for value in found if np.isfinite(value)]
    return float(np.percentile(known, 75)) if known else float("nan")


def _analyse(
    ground: Ground,
    folder: Path,
    token: CancelToken,
    progress: ProgressCallback | None,
    warnings: list[str],
) -> tuple[np.ndarray, list[pd.DataFrame]]:
    """Analyse tile by tile into ``cells.csv`` and the labels.

    Returns
    -------
    sharp : numpy.ndarray, (R, C)
        Sharpness of each part that was looked at; else nan.
    kept : list of pandas.DataFrame
        Columns `KEPT` of each tile's cells.
    """
    token.check()
    tiles = tiles_of(ground.survey, ground.states, ground.scale.um_per_px)
    sharp = np.full(ground.states.shape, np.nan)
    least = MIN_SHARPNESS * _usual_sharpness(ground)
    kept: list[pd.DataFrame] = []
    with open(folder / "cells.csv", "wb") as file:
        for done, tile in enumerate(tiles):
            if progress is not None:
                progress(Progress("tiles", done, len(tiles), f"{ground.n_cells} cells"))
            token.check()
            cells = _analyse_one(ground, tile, token, warnings, sharp, least)
            if cells is None:
                continue
            text = table_bytes(cells)
            file.write(text if not kept else text[text.index(b"\n") + 1 :])
            kept.append(cells[list(KEPT)])
        if not kept:
            kept.append(_no_cells(ground))
            file.write(table_bytes(kept[0]))
    return sharp, kept


def _analyse_one(
    ground: Ground, tile: Tile, token: CancelToken, warnings: list[str], sharp: np.ndarray, least: float
) -> pd.DataFrame | None:
    """The cells of one tile; None where all of it is out of focus."""
    pixels = ground.slide.read(*tile.window)
    if not _mark_blurred(ground, tile, pixels, sharp, least):
        return None
    return drain(analyse_tile(ground, tile, pixels, token, warnings.append))


def _mark_blurred(ground: Ground, tile: Tile, pixels: np.ndarray, sharp: np.ndarray, least: float) -> bool:
    """Measure the sharpness of a tile's parts and mark those out of focus; whether others are left."""
    for row, column in parts_of(tile):
        if ground.states[row, column] != MONOLAYER:
            continue
        y0, y1, x0, x1 = ground.survey.box(row, column)
        top, left = tile.window[0], tile.window[2]
        sharp[row, column] = sharpness(
            pixels[y0 - top : y1 - top, x0 - left : x1 - left], ground.scale.um_per_px
        )
        if sharp[row, column] < least:
            ground.states[row, column] = BLURRED
    return bool((ground.states[tile.rows, tile.columns] == MONOLAYER).any())


def _no_cells(ground: Ground) -> pd.DataFrame:
    """The table of a slide without cells: all columns and no row."""
    nothing = Segmentation(
        np.zeros((1, 1), np.int32), np.zeros((0, 3), np.float32), (np.nan,) * 3, ground.scale
    )
    classes = ground.engine.classifier.classes
    return build_cell_table(nothing, None, [], ground.slide_id, ground.scale.um_per_px, classes)


def _result(ground: Ground, tables: list[pd.DataFrame], warnings: list[str], seconds: float) -> FieldResult:
    """Count, and say what was skipped."""
    slide, engine = ground.slide, ground.engine
    cells = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    counts = differential(cells, default_scheme(), engine.classifier.classes, slide_id=ground.slide_id)
    shares = states_of(ground.states)
    if shares[THICK] or shares[BLURRED]:
        warnings.append(
            f"{shares[THICK]:.0f} % of the slide is too thick to count and {shares[BLURRED]:.0f} % "
            "is out of focus: skipped (regions.csv)."
        )
    warnings += count_warnings(cells, counts)
    run = run_record(engine, ground.scale, seconds)
    run["slide"] = {
        "size_px": list(slide.shape[:2]),
        "levels": [[level.height, level.width] for level in slide.levels],
        "percent_of_slide": shares,
    }
    image = SmearImage(LazyPixels(slide), ground.slide_id, slide.source, slide.um_per_px, slide.notes)  # type: ignore[arg-type]
    none = Segmentation(
        np.zeros((1, 1), np.int32), np.zeros((0, 3), np.float32), ground.survey.glass_colour, ground.scale
    )
    unique = tuple(dict.fromkeys(warnings))
    return FieldResult(cells, counts, run, unique, image=image, segmentation=none)


def write_files(ground: Ground, result: FieldResult, sharp: np.ndarray, folder: Path) -> None:
    """Write what a slide's folder holds beside ``cells.csv``, which is there already."""
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


def _regions(ground: Ground, result: FieldResult, sharp: np.ndarray) -> pd.DataFrame:
    """One row a part of the slide: where it is, what it is like, and its settled cells by class."""
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


#: Tints of what was not analysed, RGB.
_TINTS = {THICK: (120, 60, 160), BLURRED: (60, 120, 200)}
_STRENGTH = 0.35


def slide_overlay(ground: Ground, result: FieldResult, scheme: Scheme) -> Image:
    """Draw the cells of a slide on its overview, with a legend and a scale bar.

    Parameters
    ----------
    ground : Ground
    result : FieldResult
        Of the whole slide.
    scheme : Scheme
    """
    pixels, step = overview(ground.slide, MAX_WIDTH)
    for state, tint in _TINTS.items():
        pixels = _tinted(pixels, ground.states == state, tint)
    labels = ground.labels.sampled(pixels.shape[:2])
    cells = result.cells.assign(
        **{name: result.cells[name] / step for name in ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")}
    )
    scale = replace(
        ground.scale,
        um_per_px=ground.scale.um_per_px * step,
        red_cell_diameter_px=ground.scale.red_cell_diameter_px / step,
    )
    image = SmearImage(pixels, result.slide_id, result.source)
    small = Segmentation(labels, result.segmentation.kind_probabilities, ground.survey.glass_colour, scale)
    return draw_overlay(replace(result, image=image, segmentation=small, cells=cells), scheme)


def _tinted(pixels: np.ndarray, parts: np.ndarray, tint: tuple[int, int, int]) -> np.ndarray:
    """Blend a colour over the parts of a grid that are true."""
    if not parts.any():
        return pixels
    rows = np.arange(pixels.shape[0]) * parts.shape[0] // pixels.shape[0]
    columns = np.arange(pixels.shape[1]) * parts.shape[1] // pixels.shape[1]
    where = parts[rows[:, None], columns]
    blended = pixels.copy()
    blended[where] = (pixels[where] * (1 - _STRENGTH) + np.array(tint) * _STRENGTH).astype(np.uint8)
    return blended


__all__ = ["write_whole_slide"]
