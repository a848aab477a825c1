"""A workbook: counts, cells, and how they came about. No text in it is run as a formula."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font

from napari_leukocls.io.serialise import to_plain
from napari_leukocls.measurement.absolute import counted_leukocytes
from napari_leukocls.measurement.findings import findings_table, is_flag, shown_state
from napari_leukocls.measurement.judgement import cells_to_review
from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.types import SlideResult

if TYPE_CHECKING:
    import pandas as pd

NOTICE = "For research and for training. Not for diagnosis."

#: Rows of a sheet, with its head.
MOST_ROWS = 1_048_576
_LONGEST = 32_767

_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write(result: SlideResult, path: Path) -> None:
    """Write sheets ``Report``, ``Counts``, ``Findings``, ``Cells`` and ``Run``.

    Cells have several sheets where a slide has more rows than a sheet.

    Parameters
    ----------
    result : SlideResult
    path : Path
        Within a folder that is being filled.
    """
    book = Workbook(write_only=True)
    _sheet(book, "Report", ("what", "value"), _report_rows(result))
    _sheet(book, "Counts", result.counts.columns, _rows(result.counts))
    findings = findings_table(result.findings, result.slide_id)
    _sheet(book, "Findings", findings.columns, _rows(findings))
    step = MOST_ROWS - 1
    for number, start in enumerate(range(0, max(len(result.cells), 1), step), start=1):
        part = result.cells.iloc[start : start + step]
        _sheet(book, "Cells" if number == 1 else f"Cells {number}", part.columns, _rows(part))
    _sheet(book, "Run", ("what", "value"), _run_rows(result))
    # By way of memory: a workbook whose file finds no room leaves generators behind that fail once more.
    whole = BytesIO()
    book.save(whole)
    path.write_bytes(whole.getvalue())


def _rows(table: pd.DataFrame) -> Iterable[Iterable[Any]]:
    value: Iterable[Iterable[Any]] = table.itertuples(index=False, name=None)
    return value


def _report_rows(result: SlideResult) -> list[tuple[str, Any]]:
    """What the first page of the report says: state and signature, then flags, the certain ones first."""
    signature, sample = result.signature, sample_of(result)
    flags = [one for one in result.findings if is_flag(one) and one.state != "absent"]
    flags.sort(key=lambda one: (one.state != "certain", not math.isfinite(one.value)))
    return [
        ("notice", NOTICE),
        ("slide_id", result.slide_id),
        ("sample", sample.identifier),
        ("patient", sample.patient),
        ("state", signature.state),
        ("state in words", signature.words()),
        ("signed_by", signature.signed_by),
        ("signed_at", signature.signed_at),
        ("goal", signature.goal),
        ("second_reader", signature.second_reader),
        ("kappa", signature.kappa),
        ("leukocytes counted", counted_leukocytes(result.counts)),
        ("cells to review", cells_to_review(result)),
        *((f"{one.state}", one.text) for one in flags),
        *((shown_state(one) or "figure", one.text) for one in result.findings if not is_flag(one)),
    ]


def _run_rows(result: SlideResult) -> list[tuple[str, Any]]:
    return [
        ("notice", NOTICE),
        ("slide_id", result.slide_id),
        ("source", result.source),
        ("limits", result.counts.attrs.get("limits", "")),
        *(("warning", warning) for warning in result.warnings),
        *_flat("", to_plain(result.run)),
    ]


def _flat(prefix: str, value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(f"{prefix}.{key}" if prefix else key, value[key])
    else:
        yield prefix, ", ".join(map(str, value)) if isinstance(value, list) else value


def _sheet(book: Workbook, title: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    sheet = book.create_sheet(title)
    sheet.freeze_panes = "A2"
    titles = [_cell(sheet, str(name)) for name in head]
    for cell in titles:
        cell.font = Font(bold=True)
    sheet.append(titles)
    for row in rows:
        sheet.append([_cell(sheet, value) for value in row])


def _cell(sheet: Any, value: Any) -> WriteOnlyCell:
    """A cell; a text is stored as a text, whatever it begins with, and stays one when it is edited."""
    value = to_plain(value)
    if isinstance(value, float):
        value = None if not math.isfinite(value) else float(f"{value:.6g}")
    if not isinstance(value, str):
        return WriteOnlyCell(sheet, value=value)
    cell = WriteOnlyCell(sheet, value="")
    cell.value = _UNSEEN.sub("?", value)[:_LONGEST]
    cell.data_type = "s"
    cell.quotePrefix = True
    return cell
