"""The files of a slide: cells, counts, labels, overlay, report and run, and the tables of a whole run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_leukocls.errors import OutputError
from napari_leukocls.io.atomic import atomic_bytes, make_folder
from napari_leukocls.io.folder import replacing_folder
from napari_leukocls.io.text import safe_text
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import SmearResult

if TYPE_CHECKING:
    import pandas as pd

SUMMARY_START = ("slide_id", "source", "status", "n_cells", "n_wbc", "n_rbc", "n_platelet", "n_review")
SUMMARY_END = ("segmenter", "classifier", "um_per_px", "seconds", "version")
FAILURE_COLUMNS = ("slide_id", "source", "error")
_SIGNIFICANT = "%.6g"

ExtraWriter = Callable[[SmearResult, Path], object]


def write_result(
    result: SmearResult,
    out_dir: str | Path,
    scheme: Scheme | None = None,
    extra: Sequence[ExtraWriter] = (),
    heatmaps: dict[str, Any] | None = None,
) -> dict[str, Path]:
    """Write the folder ``out_dir/<slide_id>``, which appears whole or not at all.

    Parameters
    ----------
    result : SmearResult
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
    from napari_leukocls.io.overlay import draw_overlay, overlay_png
    from napari_leukocls.io.report import render_report

    scheme = scheme or default_scheme()
    target = _slide_folder(make_folder(out_dir), result.image.slide_id)
    with replacing_folder(target) as folder:
        (folder / "cells.csv").write_bytes(table_bytes(result.cells.sort_values("cell_id", kind="stable")))
        (folder / "counts.csv").write_bytes(table_bytes(result.counts))
        write_labels(folder / "labels.tif", result.labels, result.segmentation.scale.um_per_px)
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


def table_bytes(table: pd.DataFrame) -> bytes:
    """A table as CSV: floats to six significant digits, and text that no spreadsheet runs."""
    import pandas as pd

    columns: dict[Any, Any] = {}
    for name in table.columns:
        column = table[name]
        if pd.api.types.is_float_dtype(column.dtype):
            # Adding zero turns -0.0 into 0.
            columns[name] = column + 0.0
        elif pd.api.types.is_numeric_dtype(column.dtype):
            columns[name] = column
        else:
            columns[name] = column.map(lambda value: safe_text(value) if isinstance(value, str) else value)
    safe = pd.DataFrame(columns, index=table.index)
    text = safe.to_csv(index=False, float_format=_SIGNIFICANT, lineterminator="\n", na_rep="")
    return text.encode("utf-8", errors="surrogateescape")


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as `table_bytes` says, under its name only when it is whole."""
    atomic_bytes(path, table_bytes(table))
    return Path(path)


def write_labels(path: Path, labels: np.ndarray, um_per_px: float | None) -> None:
    """Write a label image as compressed int32 TIFF, with its resolution where that is known."""
    from tifffile import imwrite

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


def run_json(result: SmearResult) -> str:
    """``run.json``: every setting, model names and hashes, versions, times and warnings."""
    run = {
        "slide_id": result.image.slide_id,
        "source": result.image.source,
        "warnings": list(result.warnings),
        "limits": result.counts.attrs.get("limits"),
        **result.run,
    }
    return json.dumps(plain(run), indent=2, sort_keys=True, ensure_ascii=True, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy types and paths made plain, numbers that are none made null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, bool, int)) else str(value)


def summary_row(result: SmearResult, *, status: str = "done", seconds: float | None = None) -> dict[str, Any]:
    """The row of ``summary.csv`` for one slide.

    Parameters
    ----------
    result : SmearResult
        ``run["segmenter"]`` and ``run["classifier"]`` are names, or mappings with a ``name``.
    status : str
    seconds : float, optional
        By default ``run["seconds"]``.
    """
    counts, cells, run = result.counts, result.cells, result.run
    by_class = dict(zip(counts["class"], counts["count"], strict=True))
    inside = counts["in_differential"].astype(bool)
    corrected = cells["corrected_class"].fillna("").astype(str) != ""
    percents = counts.loc[inside, ["class", "percent"]].itertuples(index=False)
    return {
        "slide_id": result.image.slide_id,
        "source": result.image.source,
        "status": status,
        "n_cells": len(cells),
        "n_wbc": int(counts.loc[inside, "count"].sum()),
        "n_rbc": int(by_class.get("red_cell", 0)),
        "n_platelet": int(by_class.get("platelet", 0)),
        "n_review": int((cells["needs_review"].astype(bool) & ~corrected).sum()),
        **{f"pct_{name}": float(p) for name, p in percents},
        "segmenter": model_name(run.get("segmenter")),
        "classifier": model_name(run.get("classifier")),
        "um_per_px": float(result.segmentation.scale.um_per_px),
        "seconds": run.get("seconds") if seconds is None else seconds,
        "version": run.get("version", ""),
    }


def model_name(entry: Any) -> str:
    """Name of a model as it stands in a run: a name, a mapping with one, or nothing."""
    return str(entry.get("name", "") if isinstance(entry, Mapping) else entry or "")


def write_summary(rows: Iterable[Mapping[str, Any]], path: str | Path, scheme: Scheme | None = None) -> Path:
    """Write ``summary.csv``, one row a slide, sorted; percent columns in the scheme's order."""
    import pandas as pd

    known = list(rows)
    found = {key for row in known for key in row if key.startswith("pct_")}
    order = {f"pct_{name}": place for place, name in enumerate((scheme or default_scheme()).names)}
    percents = sorted(found, key=lambda key: (order.get(key, len(order)), key))
    table = pd.DataFrame(known, columns=[*SUMMARY_START, *percents, *SUMMARY_END])
    for name in percents:
        table[name] = table[name].astype(float)
    return write_table(table.sort_values("slide_id", kind="stable"), path)


def write_failures(rows: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Write ``failures.csv``: ``slide_id, source, error``, one row an input that failed, sorted."""
    import pandas as pd

    table = pd.DataFrame(list(rows), columns=list(FAILURE_COLUMNS))
    return write_table(table.sort_values(["slide_id", "source"], kind="stable"), path)


def _slide_folder(out_dir: Path, slide_id: str) -> Path:
    if slide_id in ("", ".", "..") or any(sign in slide_id for sign in "/\\\0"):
        raise OutputError(f"slide name {slide_id!r} cannot name a folder; rename the image or the layer.")
    return out_dir / slide_id
