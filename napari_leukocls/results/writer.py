"""The files of a slide: cells, counts, labels, overlay, report and run, and the tables of a whole run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import imwrite

from napari_leukocls.errors import OutputError
from napari_leukocls.io.atomic import make_folder, replacing_folder
from napari_leukocls.io.serialise import json_text, table_bytes
from napari_leukocls.results.overlay import draw_overlay, overlay_png
from napari_leukocls.results.report import render_report
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import FieldResult

ExtraWriter = Callable[[FieldResult, Path], object]


def write_result(
    result: FieldResult,
    out_dir: str | Path,
    scheme: Scheme | None = None,
    extra: Sequence[ExtraWriter] = (),
    heatmaps: dict[str, Any] | None = None,
) -> dict[str, Path]:
    """Write the folder ``out_dir/<slide_id>``, which appears whole or not at all.

    Parameters
    ----------
    result : FieldResult
    out_dir : path-like
        Created where it does not exist.
    scheme : Scheme, optional
        For colours and display names; the one that ships by default.
    extra : sequence of callable
        Each is called with the result and the folder being filled, to add files of its own.
    heatmaps : dict, optional
        For the report, as `napari_leukocls.explanation.for_report` gives it.

    Returns
    -------
    dict of str to Path
        ``folder`` and each file by its name.

    Raises
    ------
    OutputError
        The folder cannot be written, or a folder of that name is no result of an earlier analysis.
    """
    scheme = scheme or default_scheme()
    target = _slide_folder(make_folder(out_dir), result.slide_id)
    with replacing_folder(target) as folder:
        (folder / "cells.csv").write_bytes(table_bytes(result.cells.sort_values("cell_id", kind="stable")))
        (folder / "counts.csv").write_bytes(table_bytes(result.counts))
        write_labels(folder / "labels.tif", result.labels, result.um_per_px)
        overlay = draw_overlay(result, scheme)
        (folder / "overlay.png").write_bytes(overlay_png(overlay))
        # Names of files need not be text; what cannot be shown is shown as a question mark.
        report = render_report(result, scheme, overlay, heatmaps)
        (folder / "report.html").write_bytes(report.encode("utf-8", errors="replace"))
        (folder / "run.json").write_text(run_json(result), encoding="utf-8", newline="\n")
        for writer in extra:
            writer(result, folder)
        names = sorted(entry.name for entry in folder.iterdir())
    return {"folder": target, **{name: target / name for name in names}}


def write_labels(path: Path, labels: np.ndarray, um_per_px: float | None) -> None:
    """Write a label image as compressed int32 TIFF, with its resolution where that is known."""
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


def run_json(result: FieldResult) -> str:
    """``run.json``: every setting, model names and hashes, versions, times and warnings."""
    run = {
        "slide_id": result.slide_id,
        "source": result.source,
        "warnings": list(result.warnings),
        "limits": result.counts.attrs.get("limits"),
        **result.run,
    }
    return json_text(run, sort_keys=True)


def _slide_folder(out_dir: Path, slide_id: str) -> Path:
    if slide_id in ("", ".", "..") or any(sign in slide_id for sign in "/\\\0"):
        raise OutputError(f"slide name {slide_id!r} cannot name a folder; rename the image or the layer.")
    return out_dir / slide_id
