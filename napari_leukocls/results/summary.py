"""Summary.csv and failures.csv."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from napari_leukocls.io.serialise import write_table
from napari_leukocls.measurement.differential import count_unsettled
from napari_leukocls.measurement.fine import of_differential
from napari_leukocls.scheme import NOT_TOLD_APART, Scheme, default_scheme
from napari_leukocls.types import SlideResult

SUMMARY_START = ("slide_id", "source", "status", "n_cells", "n_wbc", "n_rbc", "n_platelet", "n_review")

SUMMARY_END = ("segmenter", "classifier", "um_per_px", "seconds", "version")

FAILURE_COLUMNS = ("slide_id", "source", "error")


def summary_row(result: SlideResult, *, status: str = "done", seconds: float | None = None) -> dict[str, Any]:
    """Make the row of ``summary.csv`` of one slide.

    Parameters
    ----------
    result : SlideResult
        ``run["segmenter"]`` and ``run["classifier"]`` are names, or mappings with a ``name``.
    status : str
    seconds : float, optional
        ``run["seconds"]`` by default.

    Returns
    -------
    dict
    """
    counts, cells, run = result.counts, result.cells, result.run
    by_class = dict(zip(counts["class"], counts["count"], strict=True))
    inside = counts["in_differential"].astype(bool)
    percents = counts.loc[of_differential(counts), ["class", "percent"]].itertuples(index=False)
    return {
        "slide_id": result.slide_id,
        "source": result.source,
        "status": status,
        "n_cells": len(cells),
        "n_wbc": int(counts.loc[inside, "count"].sum()),
        "n_rbc": int(by_class.get("red_cell", 0)),
        "n_platelet": int(by_class.get("platelet", 0)),
        "n_review": count_unsettled(cells),
        **{f"pct_{name}": float(p) for name, p in percents},
        "segmenter": model_name(run.get("segmenter")),
        "classifier": model_name(run.get("classifier")),
        "um_per_px": float(result.um_per_px),
        "seconds": run.get("seconds") if seconds is None else seconds,
        "version": run.get("version", ""),
    }


def model_name(entry: Any) -> str:
    """Give the name of a model in a run.

    Parameters
    ----------
    entry : str, mapping with ``name``, or None

    Returns
    -------
    str
        "" if there is none.
    """
    return str(entry.get("name", "") if isinstance(entry, Mapping) else entry or "")


def write_summary(rows: Iterable[Mapping[str, Any]], path: str | Path, scheme: Scheme | None = None) -> Path:
    """Write ``summary.csv``: one row a slide, sorted, with the percentages in the order of the scheme.

    Parameters
    ----------
    rows : iterable of mapping
        As `summary_row` gives them.
    path : path-like
    scheme : Scheme, optional

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    known = list(rows)
    found = {key for row in known for key in row if key.startswith("pct_")}
    names = (scheme or default_scheme()).names
    both = (one for name in names for one in (name, name + NOT_TOLD_APART))
    order = {f"pct_{name}": i for i, name in enumerate(both)}
    percents = sorted(found, key=lambda key: (order.get(key, len(order)), key))
    table = pd.DataFrame(known, columns=[*SUMMARY_START, *percents, *SUMMARY_END])
    for name in percents:
        table[name] = table[name].astype(float)
    return write_table(table.sort_values("slide_id", kind="stable"), path)


def write_failures(rows: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Write ``failures.csv``: one row for each slide that failed, sorted.

    Parameters
    ----------
    rows : iterable of mapping
        ``slide_id``, ``source`` and ``error``.
    path : path-like

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    table = pd.DataFrame(list(rows), columns=list(FAILURE_COLUMNS))
    return write_table(table.sort_values(["slide_id", "source"], kind="stable"), path)
