"""Summary.csv and failures.csv."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from napari_leukocls.io.serialise import write_table
from napari_leukocls.measurement.differential import count_unsettled
from napari_leukocls.measurement.fine import of_differential
from napari_leukocls.measurement.flags import FLAG
from napari_leukocls.measurement.quality_grades import KEY
from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.scheme import NOT_TOLD_APART, Scheme, default_scheme
from napari_leukocls.types import Finding, Signature, SlideResult

SUMMARY_START = ("slide_id", "source", "status", "n_cells", "n_wbc", "n_rbc", "n_platelet", "n_review")

SUMMARY_END = ("segmenter", "classifier", "um_per_px", "seconds", "version", "state", "flags")

#: Columns that stand at the end if a slide has a value for them.
SUMMARY_MORE = ("sample", "patient", "wbc", "wbc_low", "wbc_high", "wbc_source")

SIGNED = ("signed_by", "signed_at", "second_reader", "kappa")

FAILURE_COLUMNS = ("slide_id", "source", "error")


def summary_row(result: SlideResult, *, status: str = "done", seconds: float | None = None) -> dict[str, Any]:
    """Make the row of ``summary.csv`` of one slide.

    Parameters
    ----------
    result : SlideResult
        As `napari_leukocls.measurement.judgement.judge` completes it. ``run["segmenter"]`` and ``run["classifier"]``
        are names, or mappings with a ``name``.
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
        "state": result.signature.state,
        "flags": " ".join([*_flags(result.findings), *_of_quality(run)]),
        **_values(result),
        **(signature_columns(result.signature) if result.signature.is_signed else {}),
    }


def _flags(findings: Iterable[Finding]) -> list[str]:
    """Names of the flags that are certain."""
    raised = (one for one in findings if one.name.startswith(FLAG) and one.state == "certain" and one.rule)
    return [one.name.removeprefix(FLAG) for one in raised]


def _of_quality(run: Mapping[str, Any]) -> list[str]:
    """A flag of pictures that are no basis of a count."""
    return ["quality_red"] if (run.get(KEY) or {}).get("grade") == "red" else []


def _values(result: SlideResult) -> dict[str, Any]:
    """What is known of the sample; nothing where nothing is."""
    sample = sample_of(result)
    row: dict[str, Any] = {"sample": sample.identifier, "patient": sample.patient}
    wbc = [one for one in result.findings if one.name.startswith("wbc_")]
    if wbc:
        # The corrected number comes after the given one.
        last = wbc[-1]
        row |= {"wbc": last.value, "wbc_low": last.low, "wbc_high": last.high}
        row["wbc_source"] = last.name.removeprefix("wbc_")
    return {name: value for name, value in row.items() if value != ""}


def signature_columns(signature: Signature) -> dict[str, Any]:
    """Make the columns that a signed count has in ``summary.csv`` and ``counts.csv``.

    Parameters
    ----------
    signature : Signature

    Returns
    -------
    dict
        `SIGNED`; kappa is nan where there is none.
    """
    kappa = math.nan if signature.kappa is None else signature.kappa
    values = (signature.signed_by, signature.signed_at, signature.second_reader, kappa)
    return dict(zip(SIGNED, values, strict=True))


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
    more = [name for name in (*SUMMARY_MORE, *SIGNED) if any(name in row for row in known)]
    table = pd.DataFrame(known, columns=[*SUMMARY_START, *percents, *SUMMARY_END, *more])
    for name in (*percents, *(one for one in more if one in ("wbc", "wbc_low", "wbc_high", "kappa"))):
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
