"""Findings: what is said of a slide beside its counts; how they are added to a result, written and read.

A finding is a figure with its limits (anisocytosis, an estimate of the platelets), or what a rule says of a figure
(schistocytes of at least 1 %). To add findings to a result::

    result = with_findings(result, [Finding("platelet_clumps", 3, nan, nan, "{clumps}", "certain", "any clump", "...")])

The name begins with what it is about, which is also where the report shows it: ``leukocyte_``, ``red_cell_``,
``platelet_`` or ``quality_``. The rules of a laboratory can refer to any of them by its name. Findings that are made
anew from the counts each time a result is written begin with one of `DERIVED`. A slide of several fields, and a whole
slide, are results of their own: make their findings from their tables (cells, red cells, ``run``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, get_args

import pandas as pd

from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import original_text, table_bytes
from napari_leukocls.types import Finding, FindingState, SlideResult

Result = TypeVar("Result", bound=SlideResult)

#: Name of the file in the folder of a slide.
FINDINGS = "findings.csv"
FINDING_COLUMNS = ("slide_id", "name", "value", "low", "high", "unit", "state", "rule", "text")
STATES: tuple[FindingState, ...] = get_args(FindingState)
#: Beginnings of the names of findings that follow from the counts: they are never read back, but made anew.
DERIVED = ("flag_", "absolute_", "wbc_", "delta_", "platelet_estimate")

#: Units of UCUM as people write them.
UNITS = {"10*9/L": "× 10⁹/L", "10*12/L": "× 10¹²/L", "um": "µm", "/100{WBCs}": "per 100 leukocytes"}

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_NUMBERS = ("value", "low", "high")
_TEXTS = ("slide_id", "name", "unit", "state", "rule", "text")


def with_findings(result: Result, findings: Iterable[Finding]) -> Result:
    """Add findings to a result.

    Parameters
    ----------
    result : SlideResult
    findings : iterable of Finding
        One with a name that the result has already takes its place.

    Returns
    -------
    SlideResult
        Of the same type.

    Raises
    ------
    ValueError
        If a finding has no usable name or an unknown state.
    """
    known = {one.name: one for one in result.findings}
    for one in findings:
        if not _NAME.fullmatch(one.name):
            raise ValueError(f"{one.name!r} is no name of a finding: lower-case letters, digits, underscores")
        if one.state not in STATES:
            raise ValueError(f"finding {one.name}: {one.state!r} is none of {', '.join(STATES)}")
        known[one.name] = one
    return replace(result, findings=tuple(known.values()))


def measured(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Leave out the findings that follow from the counts.

    Parameters
    ----------
    findings : iterable of Finding

    Returns
    -------
    tuple of Finding
    """
    return tuple(one for one in findings if not one.name.startswith(DERIVED))


def findings_table(findings: Iterable[Finding], slide_id: str) -> pd.DataFrame:
    """Make the table of ``findings.csv``.

    Parameters
    ----------
    findings : iterable of Finding
    slide_id : str

    Returns
    -------
    pandas.DataFrame
        Columns `FINDING_COLUMNS`, in the order given.
    """
    rows = [
        (slide_id, one.name, one.value, one.low, one.high, one.unit, one.state, one.rule, one.text)
        for one in findings
    ]
    table = pd.DataFrame(rows, columns=list(FINDING_COLUMNS))
    return table.astype({**dict.fromkeys(_NUMBERS, float), **dict.fromkeys(_TEXTS, object)})


def write_findings(folder: Path, findings: Iterable[Finding], slide_id: str) -> None:
    """Write ``findings.csv`` into a folder that is being filled.

    Parameters
    ----------
    folder : Path
    findings : iterable of Finding
    slide_id : str
    """
    (folder / FINDINGS).write_bytes(table_bytes(findings_table(findings, slide_id)))


def read_findings(folder: str | Path) -> tuple[Finding, ...]:
    """Read ``findings.csv``.

    Parameters
    ----------
    folder : path-like
        Of a slide.

    Returns
    -------
    tuple of Finding
        None at all if the folder is of a version that wrote no findings.

    Raises
    ------
    InputError
        If the file is damaged.
    """
    path = Path(folder) / FINDINGS
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    try:
        table = pd.read_csv(
            BytesIO(content),
            dtype={**dict.fromkeys(_NUMBERS, float), **dict.fromkeys(_TEXTS, str)},
            keep_default_na=False,
            na_values={name: [""] for name in _NUMBERS},
            encoding_errors="surrogateescape",
        )
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    missing = [name for name in FINDING_COLUMNS if name not in table]
    if missing:
        raise _damaged(path, f"it has no column {missing[0]}")
    return tuple(_finding(row, path) for row in table.to_dict("records"))


def _finding(row: dict[Any, Any], path: Path) -> Finding:
    name, unit, rule, text = (original_text(str(row[what])) for what in ("name", "unit", "rule", "text"))
    state = next((known for known in STATES if known == row["state"]), None)
    if state is None:
        raise _damaged(path, f"{row['state']!r} is no state of a finding")
    value, low, high = (float(row[what]) for what in _NUMBERS)
    return Finding(name, value, low, high, unit, state, rule, text)


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"'{path}' cannot be read ({why}); analyse the slide again.")


def is_flag(finding: Finding) -> bool:
    """Whether a finding says that something is there or not; others state a figure, and how it was found.

    Parameters
    ----------
    finding : Finding

    Returns
    -------
    bool
    """
    return bool(finding.rule) and not finding.name.startswith(("wbc_", "platelet_estimate"))


def shown_state(finding: Finding) -> str:
    """The state that a finding is marked with.

    Parameters
    ----------
    finding : Finding

    Returns
    -------
    str
        Of a figure "", unless it is only possible, such as an estimate from few fields.
    """
    return finding.state if is_flag(finding) or finding.state == "possible" else ""


def limits_text(finding: Finding) -> str:
    """Write the figure of a finding with its limits.

    Parameters
    ----------
    finding : Finding

    Returns
    -------
    str
        Such as ``3.2 % (1.1 to 7.0)``; "" where there is no figure.
    """
    if not math.isfinite(finding.value):
        return ""
    # An annotation of UCUM, such as {cells}, is no unit but a word.
    unit = UNITS.get(finding.unit, finding.unit.strip("{}"))
    if finding.unit.startswith("{") and finding.value == 1:
        unit = unit.removesuffix("s")
    text = f"{short_number(finding.value)} {unit}".strip()
    if math.isfinite(finding.low) and math.isfinite(finding.high):
        text += f" ({short_number(finding.low)} to {short_number(finding.high)})"
    return text


def short_number(value: float) -> str:
    """Write a number with three significant digits and without an exponent.

    Parameters
    ----------
    value : float

    Returns
    -------
    str
        "" for nan.
    """
    if not math.isfinite(value):
        return ""
    return (
        f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.3g}"
        if abs(value) >= 0.001 or not value
        else "<0.001"
    )


__all__ = [
    "DERIVED",
    "FINDINGS",
    "FINDING_COLUMNS",
    "STATES",
    "UNITS",
    "Finding",
    "findings_table",
    "is_flag",
    "limits_text",
    "measured",
    "read_findings",
    "short_number",
    "shown_state",
    "with_findings",
    "write_findings",
]
