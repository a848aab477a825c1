"""The folder of a slide: cells, counts, labels, overlay, report and run. The only writer of results."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tifffile import imwrite

from napari_leukocls.errors import OutputError
from napari_leukocls.io.atomic import make_folder, replacing_folder
from napari_leukocls.io.labels import LabelStore, write_pyramid
from napari_leukocls.io.serialise import json_text, table_bytes
from napari_leukocls.measurement.findings import write_findings
from napari_leukocls.measurement.fine import as_counted
from napari_leukocls.measurement.judgement import judge
from napari_leukocls.measurement.red_cell_table import RED_CELL_FILE
from napari_leukocls.results.hidden_parts import write_hidden
from napari_leukocls.results.overlay import draw_overlay, overlay_png
from napari_leukocls.results.report import render_report
from napari_leukocls.results.summary import signature_columns
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult, SlideResult

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

ExtraWriter = Callable[[Any, Path], object]


def write_result(
    result: FieldResult,
    out_dir: str | Path,
    scheme: Scheme | None = None,
    extra: Sequence[ExtraWriter] = (),
    heatmaps: dict[str, Any] | None = None,
) -> dict[str, Path]:
    """Write the folder ``out_dir/<slide_id>`` of one field, which appears whole or not at all.

    Parameters
    ----------
    result : FieldResult
    out_dir : path-like
        Created if it does not exist.
    scheme : Scheme, optional
        For colours and display names; the default one if it is not given.
    extra : sequence of callable
        Each is called with the result and the folder that is being filled, to add files of its own.
    heatmaps : dict, optional
        For the report, as `napari_leukocls.explanation.report_heatmaps` gives it.

    Returns
    -------
    dict of str to Path
        ``folder`` and each file by its name.

    Raises
    ------
    OutputError
        If the folder cannot be written, or if a folder of that name exists and is not the result of an analysis.
    ArgumentError
        If the laboratory's file of rules is wrong.
    """
    scheme = scheme or default_scheme()
    judged = judge(as_counted(result), scheme=scheme)
    result = judged.result
    with slide_folder(out_dir, result.slide_id) as folder:
        write_cells(folder, [result.cells.sort_values("cell_id", kind="stable")])
        write_labels(folder, result.labels, result.um_per_px)
        write_hidden(folder, result.segmentation)
        overlay = draw_overlay(result, scheme)
        report = render_report(judged, scheme, overlay, heatmaps)
        write_files(result, folder, report, overlay, extra)
        names = sorted(entry.name for entry in folder.iterdir())
    target = Path(out_dir) / result.slide_id
    return {"folder": target, **{name: target / name for name in names}}


@contextmanager
def slide_folder(out_dir: str | Path, slide_id: str) -> Iterator[Path]:
    """Fill the folder ``out_dir/<slide_id>``, which appears whole or not at all.

    Parameters
    ----------
    out_dir : path-like
        Created if it does not exist.
    slide_id : str

    Yields
    ------
    Path
        The folder to fill. It gets its name when the block ends without an error.

    Raises
    ------
    OutputError
        If the folder cannot be written, if `slide_id` cannot name a folder, or if a folder of that name exists and
        is not the result of an analysis.
    """
    if slide_id in ("", ".", "..") or any(sign in slide_id for sign in "/\\\0"):
        raise OutputError(f"slide name {slide_id!r} cannot name a folder; rename the image or the layer.")
    with replacing_folder(make_folder(out_dir) / slide_id) as folder:
        yield folder


def write_cells(folder: Path, tables: Iterable[pd.DataFrame]) -> None:
    """Write ``cells.csv`` from one table after another, so that they need not be in memory together.

    Parameters
    ----------
    folder : Path
    tables : iterable of pandas.DataFrame
        At least one; all have the same columns.
    """
    with open(folder / "cells.csv", "wb") as file:
        for number, table in enumerate(tables):
            text = table_bytes(table)
            file.write(text if number == 0 else text[text.index(b"\n") + 1 :])


def write_labels(folder: Path, labels: np.ndarray | LabelStore, um_per_px: float | None) -> None:
    """Write ``labels.tif``: compressed int32, with the pixel size if that is known.

    Parameters
    ----------
    folder : Path
    labels : numpy.ndarray, (H, W), int, or LabelStore
        The labels of a whole slide, which are in a `LabelStore`, become a pyramid.
    um_per_px : float or None
    """
    path = folder / "labels.tif"
    if isinstance(labels, LabelStore):
        write_pyramid(labels, path, um_per_px)
        return
    known = um_per_px is not None and math.isfinite(um_per_px) and um_per_px > 0
    per_cm = 1e4 / um_per_px if known and um_per_px else None
    imwrite(
        path,
        np.ascontiguousarray(labels, dtype=np.int32),
        compression="zlib",
        compressionargs={"level": 3},
        photometric="minisblack",
        resolution=(per_cm, per_cm) if per_cm else None,
        resolutionunit="CENTIMETER" if per_cm else None,
        software="napari-leukocls",
        metadata=None,
    )


def write_files(
    result: SlideResult,
    folder: Path,
    report: str,
    overlay: Image.Image | None = None,
    extra: Sequence[ExtraWriter] = (),
) -> None:
    """Write what the folder of any slide holds beside its cells and labels.

    Parameters
    ----------
    result : SlideResult
        As `napari_leukocls.measurement.judgement.judge` completes it.
    folder : Path
        The folder that is being filled.
    report : str
        The page ``report.html``.
    overlay : PIL.Image.Image, optional
        Of a slide that has one picture.
    extra : sequence of callable
        Each is called with the result and the folder, after all other files are written.
    """
    signed = signature_columns(result.signature) if result.signature.is_signed else {}
    (folder / "counts.csv").write_bytes(table_bytes(result.counts.assign(**signed)))
    write_findings(folder, result.findings, result.slide_id)
    if result.red_cells is not None:
        (folder / RED_CELL_FILE).write_bytes(table_bytes(result.red_cells))
    if overlay is not None:
        (folder / "overlay.png").write_bytes(overlay_png(overlay))
    # A file name need not be valid text: what cannot be encoded becomes a question mark.
    (folder / "report.html").write_bytes(report.encode("utf-8", errors="replace"))
    (folder / "run.json").write_text(run_json(result), encoding="utf-8", newline="\n")
    for writer in extra:
        writer(result, folder)


def run_json(result: SlideResult) -> str:
    """Format ``run.json``: all settings, model names and hashes, versions, times and warnings.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
    """
    run = {
        "slide_id": result.slide_id,
        "source": result.source,
        "warnings": list(result.warnings),
        "limits": result.counts.attrs.get("limits"),
        "signature": asdict(result.signature),
        **result.run,
    }
    return json_text(run, sort_keys=True)
