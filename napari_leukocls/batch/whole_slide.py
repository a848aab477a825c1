"""A whole slide, analysed tile by tile and written to its folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from napari_leukocls.analysis.engine import Engine, run_record
from napari_leukocls.analysis.slide_familiarity import SlideTest
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
    SlideJob,
    Tile,
    analyse_tile,
    parts_of,
    states_of,
    tiles_of,
)
from napari_leukocls.explanation import report_heatmaps
from napari_leukocls.io.labels import LabelReader, LabelStore
from napari_leukocls.io.serialise import table_bytes
from napari_leukocls.io.slides import open_slide
from napari_leukocls.io.slides.base import LazyPixels, SlideImage
from napari_leukocls.measurement.absolute import AREA
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.differential import count_warnings, settled, unsigned
from napari_leukocls.measurement.findings import with_findings
from napari_leukocls.measurement.fine import FINE_CLASS, FINE_PROBABILITY, count_cells, shown_classes
from napari_leukocls.measurement.heaps import HEAPS, heap_findings, heap_warnings
from napari_leukocls.measurement.judgement import judge
from napari_leukocls.measurement.quality_grades import grade_quality
from napari_leukocls.measurement.red_cell_findings import with_red_cells
from napari_leukocls.measurement.red_cell_table import join_red_cells
from napari_leukocls.measurement.samples import SampleValues, with_sample
from napari_leukocls.measurement.smudges import smudge_finding
from napari_leukocls.measurement.stain_reference import read_reference
from napari_leukocls.progress import CancelToken, Progress, ProgressCallback, drain
from napari_leukocls.results.hidden_parts import write_hidden
from napari_leukocls.results.overlay import MAX_WIDTH, draw_cells
from napari_leukocls.results.reader import read_cells
from napari_leukocls.results.report import render_report
from napari_leukocls.results.writer import slide_folder, write_cells, write_files, write_labels
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.segmentation.scale import find_scale
from napari_leukocls.types import FieldResult, Segmentation, SlideResult, SmearImage

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pixel size that is assumed until it is measured, micrometres: it serves to choose the fields to measure in.
GUESS_UM = 0.15
#: Number of fields in which red cells are measured, and their side, pixels.
RULER_FIELDS = 4
RULER_SIDE = 1280

#: Tiles of a slide whose red cells are looked at: each holds thousands, and a share needs about a thousand.
RED_CELL_TILES = 4

#: Diameter of a red cell in the overlay from which overlapping outlines and heaps are drawn, pixels.
LEAST_DRAWN_PX = 8.0

#: What of the table of cells stays in memory: enough to count, and to choose the report's pictures.
KEPT = (
    *(
        "cell_id",
        "class",
        "predicted_class",
        "probability",
        "needs_review",
        "review_reason",
        "corrected_class",
    ),
    *("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"),
    *(FINE_CLASS, FINE_PROBABILITY),  # where the finer classes are told apart
)
Finish = Callable[[SlideResult, Path], None]


def write_whole_slide(
    path: Path,
    slide_id: str,
    source: str,
    out_dir: Path,
    engine: Engine,
    progress: ProgressCallback | None = None,
    cancel: CancelToken | None = None,
    finish: Finish | None = None,
    sample: SampleValues | None = None,
) -> list[str]:
    """Analyse a whole slide and write ``out_dir/<slide_id>``, whole or not at all.

    Beside the files of a field there is ``regions.csv``: the parts of the slide with their state, stain,
    sharpness and cells.

    Parameters
    ----------
    path : Path
    slide_id, source : str
        Name and origin, as the results state them.
    out_dir : Path
    engine : Engine
    progress : callable, optional
    cancel : CancelToken, optional
    finish : callable, optional
        Called with the result and the folder before the folder gets its name. The `cells` have the columns `KEPT`.
        If further formats are asked for, `cells` has all columns and the result is a `FieldResult`.
    sample : SampleValues, optional
        Counts of the analyser.

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
    scheme = default_scheme()
    with open_slide(path, engine.config.plane) as slide, slide_folder(out_dir, slide_id) as folder:
        slide.source = source
        labels = LabelStore(folder / ".labels.scratch", slide.shape[:2])
        try:
            if progress is not None:
                progress(Progress("survey", 0, 1, "surveying the slide"))
            job, warnings = _survey(slide, slide_id, engine, labels)
            sharp, tables = _analyse(job, folder, token, progress, warnings)
            result = _result(job, tables, warnings, time.perf_counter() - started)
            result = result if sample is None else with_sample(result, sample)
            write_labels(folder, labels, result.um_per_px)
            write_hidden(folder, _hidden_parts(job, labels))
            overlay = slide_overlay(job, result, scheme)
        finally:
            labels.close()
        (folder / "regions.csv").write_bytes(table_bytes(_regions(job, result, sharp)))
        outlined = _with_outlines(job, result, folder)
        heatmaps = report_heatmaps(outlined, engine, engine.config.heatmaps)
        judged = judge(outlined, scheme=scheme)
        report = render_report(judged, scheme, overlay, heatmaps)
        result = replace(result, counts=judged.result.counts, findings=judged.result.findings)
        if engine.config.formats:
            result = replace(judged.result, cells=read_cells(folder))
        write_files(result, folder, report, overlay, [] if finish is None else [finish])
    return list(result.warnings)


def _with_outlines(job: SlideJob, result: SlideResult, folder: Path) -> FieldResult:
    """The result with the pixels of the slide and the labels of its folder, both read only where they are cut."""
    pixels: Any = LazyPixels(job.slide)
    labels: Any = LabelReader(folder / "labels.tif")
    image = SmearImage(pixels, job.slide_id, job.slide.source, job.slide.um_per_px, job.slide.notes)
    outlines = _hidden_parts(job, labels)
    return FieldResult(
        result.cells,
        result.counts,
        result.run,
        result.warnings,
        signature=result.signature,
        findings=result.findings,
        red_cells=result.red_cells,
        image=image,
        segmentation=outlines,
    )


def _hidden_parts(job: SlideJob, labels: Any) -> Segmentation:
    """Labels with the whole outlines of covered cells and the heaps of the slide."""
    # The kinds are in the table of cells; nothing that reads outlines from the disk needs them.
    kinds, glass = np.zeros((0, 3), np.float32), job.survey.glass_colour
    return Segmentation(labels, kinds, glass, job.scale, outlines=job.outlines, heaps=tuple(job.heaps))


def _survey(
    slide: SlideImage, slide_id: str, engine: Engine, labels: LabelStore
) -> tuple[SlideJob, list[str]]:
    """Read the scale, and survey the slide."""
    pixels: Any = LazyPixels(slide)
    image = SmearImage(pixels, slide_id, slide.source, slide.um_per_px, slide.notes)
    found = find_scale(image, engine.config, engine.compact, lambda: ruler_fields(slide))
    scale = found.scale
    view = survey(slide, scale.um_per_px)
    states = view.states()
    test = SlideTest(engine.classifier)
    job = SlideJob(slide, slide_id, engine, scale, view, states, labels, test, inverted=found.inverted)
    return job, [*found.warnings, *slide.notes]


def ruler_fields(slide: SlideImage) -> list[np.ndarray]:
    """Read a few sharp fields with cells side by side, in which red cells are measured.

    Parameters
    ----------
    slide : SlideImage

    Returns
    -------
    list of numpy.ndarray, (h, w, 3), uint8
    """
    view = survey(slide, slide.um_per_px or GUESS_UM)
    places = np.argwhere(view.states() == MONOLAYER)
    if len(places) == 0:
        places = np.argwhere(view.coverage > 0)
    if len(places) == 0:
        return [slide.read(0, RULER_SIDE, 0, RULER_SIDE)]
    # Parts that are nearly half covered have many cells that do not touch.
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


def _usual_sharpness(job: SlideJob) -> float:
    """Sharpness of the sharper half of parts that are spread over the monolayer; nan where there are none."""
    places = np.argwhere(job.states == MONOLAYER)
    chosen = places[np.linspace(0, len(places) - 1, min(FOCUS_SAMPLES, len(places))).round().astype(int)]
    found = [
        sharpness(job.slide.read(*job.survey.box(int(row), int(column))), job.scale.um_per_px)
        for row, column in chosen
    ]
    known = [value for value in found if np.isfinite(value)]
    return float(np.percentile(known, 75)) if known else float("nan")


def _analyse(
    job: SlideJob,
    folder: Path,
    token: CancelToken,
    progress: ProgressCallback | None,
    warnings: list[str],
) -> tuple[np.ndarray, list[pd.DataFrame]]:
    """Analyse tile by tile into ``cells.csv`` and the labels.

    Returns
    -------
    sharp : numpy.ndarray, (R, C)
        Sharpness of each part that was measured; else nan.
    kept : list of pandas.DataFrame
        Columns `KEPT` of each tile's cells.
    """
    token.check()
    tiles = tiles_of(job.survey, job.states, job.scale.um_per_px)
    spread = np.linspace(0, len(tiles) - 1, min(RED_CELL_TILES, len(tiles))).round().astype(int)
    job.sampled = frozenset(tiles[index].core for index in spread)
    sharp = np.full(job.states.shape, np.nan)
    least = MIN_SHARPNESS * _usual_sharpness(job)
    kept: list[pd.DataFrame] = []

    def tables() -> Iterator[pd.DataFrame]:
        for done, tile in enumerate(tiles):
            if progress is not None:
                progress(Progress("tiles", done, len(tiles), f"{job.n_cells} cells"))
            token.check()
            cells = _analyse_one(job, tile, token, warnings, sharp, least)
            if cells is not None:
                kept.append(cells[[name for name in KEPT if name in cells]])
                yield cells
        if not kept:
            kept.append(_no_cells(job))
            yield kept[0]

    write_cells(folder, tables())
    return sharp, kept


def _analyse_one(
    job: SlideJob, tile: Tile, token: CancelToken, warnings: list[str], sharp: np.ndarray, least: float
) -> pd.DataFrame | None:
    """The cells of one tile; None where all of it is out of focus."""
    pixels = job.slide.read(*tile.window)
    if not _mark_blurred(job, tile, pixels, sharp, least):
        return None
    return drain(analyse_tile(job, tile, pixels, token, warnings.append))


def _mark_blurred(job: SlideJob, tile: Tile, pixels: np.ndarray, sharp: np.ndarray, least: float) -> bool:
    """Measure the sharpness of a tile's parts and mark those out of focus; whether others are left."""
    for row, column in parts_of(tile):
        if job.states[row, column] != MONOLAYER:
            continue
        y0, y1, x0, x1 = job.survey.box(row, column)
        top, left = tile.window[0], tile.window[2]
        sharp[row, column] = sharpness(
            pixels[y0 - top : y1 - top, x0 - left : x1 - left], job.scale.um_per_px
        )
        if sharp[row, column] < least:
            job.states[row, column] = BLURRED
    return bool((job.states[tile.rows, tile.columns] == MONOLAYER).any())


def _no_cells(job: SlideJob) -> pd.DataFrame:
    """The table of a slide without cells: all columns and no row."""
    nothing = Segmentation(np.zeros((1, 1), np.int32), np.zeros((0, 3), np.float32), (np.nan,) * 3, job.scale)
    classes = job.engine.classifier.classes
    um = job.scale.um_per_px
    return build_cell_table(nothing, None, [], job.slide_id, um, classes, finer=job.engine.finer)


def _result(job: SlideJob, tables: list[pd.DataFrame], warnings: list[str], seconds: float) -> SlideResult:
    """Count the cells, and warn of parts that were skipped."""
    slide, engine = job.slide, job.engine
    cells = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    classes, finer = engine.classifier.classes, engine.finer
    counts = count_cells(cells, default_scheme(), classes, finer, slide_id=job.slide_id)
    shares = states_of(job.states)
    if shares[THICK] or shares[BLURRED]:
        warnings.append(
            f"{shares[THICK]:.0f} % of the slide is too thick to count and {shares[BLURRED]:.0f} % "
            "is out of focus: skipped (regions.csv)."
        )
    monolayer = _monolayer_px(job)
    heaps = 100 * float(job.heap_px.sum()) / max(monolayer, 1.0)
    # Windows of tiles overlap: a heap may be in several of them.
    measured = [replace(one, heaps=heaps / 100) for one in job.measured]
    quality = grade_quality(measured, job.scale.um_per_px, read_reference())
    warnings += [*job.test.warnings(), *quality.warnings(), *job.platelets.warnings()]
    warnings += count_warnings(cells, counts)
    run = run_record(engine, job.scale, seconds) | job.test.record() | quality.record()
    warnings += heap_warnings(heaps)
    run |= job.platelets.record() | {HEAPS: heaps}
    run["slide"] = {
        "size_px": list(slide.shape[:2]),
        "levels": [[level.height, level.width] for level in slide.levels],
        "percent_of_slide": shares,
    }
    counted_mm2 = (monolayer - float(job.heap_px.sum())) * job.scale.um_per_px**2 / 1e6
    # No density of what is no smear.
    run[AREA] = None if quality.is_no_smear else counted_mm2
    unique, state = tuple(dict.fromkeys(warnings)), unsigned(cells)
    um_per_px = job.scale.um_per_px
    result = SlideResult(job.slide_id, slide.source, um_per_px, cells, counts, run, unique, signature=state)
    found = [*quality.findings(), smudge_finding(cells, counts), *job.platelets.findings()]
    found += heap_findings(heaps)
    return with_red_cells(replace(with_findings(result, found), red_cells=join_red_cells(job.red_cells)))


def _parts_px(job: SlideJob) -> np.ndarray:
    """Area of each part, square pixels."""
    array: np.ndarray = np.diff(job.survey.rows)[:, None] * np.diff(job.survey.columns)[None, :].astype(float)
    return array


def _monolayer_px(job: SlideJob) -> float:
    """Area of the parts that were analysed, square pixels."""
    return float(_parts_px(job)[job.states == MONOLAYER].sum())


def _regions(job: SlideJob, result: SlideResult, sharp: np.ndarray) -> pd.DataFrame:
    """Table of the parts: box, state, stain, sharpness, and the counted cells by class."""
    cells, view = result.cells, job.survey
    cells = cells[settled(cells)]
    middle_y = (cells["bbox_y0"].to_numpy() + cells["bbox_y1"].to_numpy() - 1) / 2
    middle_x = (cells["bbox_x0"].to_numpy() + cells["bbox_x1"].to_numpy() - 1) / 2
    shape = view.coverage.shape
    row = np.clip(np.searchsorted(view.rows, middle_y, "right") - 1, 0, shape[0] - 1)
    column = np.clip(np.searchsorted(view.columns, middle_x, "right") - 1, 0, shape[1] - 1)
    part = row * shape[1] + column
    data: dict[str, Any] = {"slide_id": job.slide_id, **_boxes(view)}
    data |= {
        "state": job.states.ravel(),
        "coverage": view.coverage.ravel(),
        "stain": view.stain.ravel(),
        "sharpness": sharp.ravel(),
    }
    names, finer = cells["class"].astype(str).to_numpy(), shown_classes(cells).astype(str)
    counted_mm2 = (_parts_px(job) - job.heap_px) * job.scale.um_per_px**2 / 1e6
    inside = result.counts.loc[result.counts["in_differential"], "class"]
    leukocytes = np.bincount(part[np.isin(names, list(inside))], minlength=shape[0] * shape[1])
    data["wbc_per_mm2"] = leukocytes / np.maximum(counted_mm2.ravel(), 1e-9)
    for name in result.counts["class"]:
        mine = (names == name) | (finer == name)
        data[f"n_{name}"] = np.bincount(part[mine], minlength=shape[0] * shape[1])
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


def slide_overlay(job: SlideJob, result: SlideResult, scheme: Scheme) -> Image:
    """Draw the cells of a slide on a small picture of it, with a legend and a scale bar.

    Parameters
    ----------
    job : SlideJob
        Its labels are still open.
    result : SlideResult
    scheme : Scheme

    Returns
    -------
    PIL.Image.Image
    """
    pixels, step = overview(job.slide, MAX_WIDTH)
    for state, tint in _TINTS.items():
        pixels = _tinted(pixels, job.states == state, tint)
    labels = job.labels.sampled(pixels.shape[:2])
    cells = result.cells.assign(
        **{name: result.cells[name] / step for name in ("bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1")}
    )
    large = job.scale.red_cell_diameter_px / step >= LEAST_DRAWN_PX
    outlines = {cell: line / step for cell, line in job.outlines.items()} if large else {}
    heaps = [heap / step for heap in job.heaps] if large else []
    um = job.scale.um_per_px * step
    return draw_cells(pixels, labels, cells, result.counts, um, scheme, outlines=outlines, heaps=heaps)


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
