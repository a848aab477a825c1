"""Tables as spreadsheets save them: CSV with any separator and encoding, XLSX, XLS, ODS."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from python_calamine import CalamineError, CalamineWorkbook

from napari_leukocls.errors import InputError
from napari_leukocls.io.serialise import original_text
from napari_leukocls.models.provenance import SPELLINGS

#: Suffixes of tables, lower case.
BOOKS = frozenset({".xlsx", ".xlsm", ".xlsb", ".xls", ".ods"})
TEXTS = frozenset({".csv", ".tsv", ".txt", ".tab"})
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
#: Rows that may stand above the names of the columns.
_HEAD_ROWS = 10
#: Longest cell that is read: an outline has some hundred points.
_MOST_CHARS = 10_000_000
#: Digits of a number that a spreadsheet keeps.
_DIGITS = 15
#: What else the columns that are needed are called.
OTHER_NAMES = {
    "file": "filename image imagefile imagename imagepath imgpath path filepath img picture datei dateiname bild "
    "bilddatei fichier archivo imagen".split(),
    "class": "label classname celltype cellclass category classlabel klasse zelltyp zellart classe clase "
    "kategorie".split(),
    "patient": "patientid patientnr patientno patientnumber subject subjectid caseid".split(),
    "slide": "slideid slidename smear smearid objektträger lame".split(),
    "um_per_px": "umperpx umperpixel umpx um/px µm/px µmperpx pixelsize pixelsizeum pixelsizeµm mpp".split(),
    "split": "part subset partition set".split(),
}
_MONTHS = "jan|feb|mar|mär|mrz|apr|may|mai|jun|jul|aug|sep|oct|okt|nov|dec|dez|fév|avr|aoû|déc"
_DATE = re.compile(
    rf"\d{{1,2}}[./-]\d{{1,2}}[./-]\d{{2,4}}(\s.*)?|\d{{4}}-\d{{2}}-\d{{2}}(\s.*)?"
    rf"|\d{{1,2}}[-. ]*({_MONTHS})[a-zé]*\.?([-. ]*\d{{2,4}})?|({_MONTHS})[a-zé]*\.?[- ]\d{{2,4}}",
    re.IGNORECASE,
)
_SHORTENED = re.compile(r"\d([.,]\d+)?e\+?\d+", re.IGNORECASE)
_ERROR = re.compile(r"#(N/A|NV|REF!|BEZUG!|NAME\?|VALUE!|WERT!|DIV/0!|NUM!|ZAHL!|NULL!|N/D)", re.IGNORECASE)


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes
    ----------
    path : Path
    columns : tuple of str
        In lower case, without spaces at their ends.
    rows : tuple of dict
        Text by column; rows without any text are left out.
    numbers : tuple of int
        Where each row is in the file, counted from the row after the names of the columns, 1.
    notes : tuple of str
        How it was read.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]
    numbers: tuple[int, ...]
    notes: tuple[str, ...] = ()


def is_table(path: Path) -> bool:
    """Tell by the suffix whether a file may be a table.

    Parameters
    ----------
    path : Path

    Returns
    -------
    bool
    """
    return path.suffix.lower() in BOOKS | TEXTS


def read_table(path: Path, needed: Sequence[str] = ("file", "class")) -> Table:
    """Read a table.

    Parameters
    ----------
    path : Path
        CSV with commas, semicolons, tabs or bars, in UTF-8, UTF-16 or Windows-1252; or XLSX, XLS, ODS.
    needed : sequence of str
        Columns that it must have. `OTHER_NAMES` are understood.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        If it cannot be read, or lacks a column.
    """
    if path.suffix.lower() in BOOKS:
        grids, notes = _sheets(path)
    else:
        grids, notes = _grids_of_text(path)
    best: tuple[int, list[str]] = (-1, list(needed))
    for what, grid in grids:
        for at, row in enumerate(grid[:_HEAD_ROWS]):
            columns, renamed = _columns(row)
            missing = [name for name in needed if name not in columns]
            if not missing:
                if what:
                    notes.append(what)
                if at:
                    notes.append(f"{path.name}: the names of the columns are in row {at + 1}.")
                notes += [f"{path.name}: the column '{old}' is taken as {new}." for old, new in renamed]
                _refuse_twice(path, row, columns)
                return _table(path, columns, grid[at + 1 :], notes)
            if len(needed) - len(missing) > best[0]:
                best = (len(needed) - len(missing), missing)
    if not any(cell for _, grid in grids for row in grid for cell in row):
        raise InputError(f"{path} cannot be read as a CSV (it is empty).")
    there = next(
        (", ".join(cell for cell in row if cell)[:80] for _, grid in grids for row in grid if any(row)), ""
    )
    raise InputError(
        f"{path} has no column {' and no column '.join(best[1])}: it needs {','.join(needed)} (its first row is "
        f"{there!r})."
    )


def _grids_of_text(path: Path) -> tuple[list[tuple[str, list[list[str]]]], list[str]]:
    """The cells of a text file for each separator that its first rows have, the likeliest first."""
    try:
        text, note = _decoded(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a CSV ({error}).") from error
    notes = [f"{path.name}: {note}."] if note else []
    lines = text.split("\n", 1)
    if re.fullmatch(r'"?sep=.?"?', lines[0].strip(), re.IGNORECASE):
        text = lines[1] if len(lines) > 1 else ""
    head = text[:4000]
    there = sorted((sign for sign in _SEPARATORS if sign in head), key=lambda sign: -head.count(sign))
    grids, fault = [], ""
    for sign in there or [","]:
        try:
            grids.append(("", _rows(text, sign)))
        except csv.Error as error:
            fault = fault or str(error)
    if not grids:
        raise InputError(f"{path} cannot be read as a CSV ({fault}).")
    return grids, notes


def _rows(text: str, separator: str) -> list[list[str]]:
    before = csv.field_size_limit(_MOST_CHARS)
    try:
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=separator,
            strict=True,
            skipinitialspace=separator != "\t",
        )
        return [[cell.strip() for cell in row] for row in reader]
    finally:
        csv.field_size_limit(before)


def _decoded(raw: bytes) -> tuple[str, str]:
    """Decode a text file; the text, and a note if its encoding is not stated."""
    for mark, encoding in (
        (b"\xef\xbb\xbf", "utf-8-sig"),
        (b"\xff\xfe\x00\x00", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if raw.startswith(mark):
            return raw.decode(encoding), ""
    if raw.count(0) > len(raw) / 4:
        return raw.decode("utf-16-be" if raw[:1] == b"\0" else "utf-16-le"), ""
    if b"\0" in raw:
        raise ValueError("it is no text")
    try:
        return raw.decode("utf-8"), ""
    except UnicodeDecodeError:
        return raw.decode(
            "cp1252"
        ), "its letters are read as Windows-1252; save it as UTF-8 if some are wrong"


def _sheets(path: Path) -> tuple[list[tuple[str, list[list[str]]]], list[str]]:
    """The cells of each sheet of a workbook that has some."""
    grids, notes, rounded = [], [], False
    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            names = book.sheet_names
            for name in names:
                cells = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
                rounded |= any(isinstance(c, float) and abs(c) >= 10**_DIGITS for row in cells for c in row)
                grid = [[_cell(value) for value in row] for row in cells]
                if any(any(row) for row in grid):
                    what = f"{path.name}: the sheet '{name}' is read." if len(names) > 1 else ""
                    grids.append((what, grid))
    except (OSError, ValueError, CalamineError) as error:
        raise InputError(f"{path} cannot be read as a table ({error}): save it as CSV.") from error
    if rounded:
        notes.append(
            f"{path.name}: it holds numbers of more than {_DIGITS} digits, whose last digits a spreadsheet sets to 0: "
            "check the patients and slides."
        )
    return grids, notes


def _cell(value: Any) -> str:
    """A cell of a workbook as the spreadsheet's CSV has it."""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, datetime):
        return value.isoformat(" ")
    if isinstance(value, (date, time, timedelta)):
        return str(value)
    return str(value).strip()


def _columns(row: Sequence[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Where each column is, by its name in lower case; and the columns that were renamed."""
    columns: dict[str, int] = {}
    for at, cell in enumerate(row):
        name = " ".join(original_text(cell).split()).casefold()
        name = name.replace(" ", "_") if name.replace(" ", "_") in _KNOWN else name
        if name:
            columns.setdefault(name, at)
    renamed = []
    for name, others in OTHER_NAMES.items():
        if name in columns or name == "split":
            continue
        fits = [other for other in columns if re.sub(r"[\s_()-]", "", other) in others]
        if len(fits) == 1:
            columns[name] = columns.pop(fits[0])
            renamed.append((fits[0], name))
    return columns, renamed


_KNOWN = frozenset({"um_per_px", "red_cell_density"})


def _refuse_twice(path: Path, row: Sequence[str], columns: Iterable[str]) -> None:
    """Refuse a table with two columns of one name that is used."""
    names = [" ".join(original_text(cell).split()).casefold() for cell in row]
    twice = [name for name in columns if names.count(name) > 1 and name in {*OTHER_NAMES, "mask", "box"}]
    if twice:
        raise InputError(f"{path} has two columns {twice[0]}: rename or delete one of them.")


def _named_split(path: Path, rows: Sequence[dict[str, str]], notes: list[str]) -> None:
    """Take a column as the split if all that it says are parts of one."""
    there = rows[0] if rows else {}
    fits = [name for name in OTHER_NAMES["split"] if name in there and "split" not in there]
    for name in fits:
        words = {row[name].casefold() for row in rows} - {""}
        if words and words <= set(SPELLINGS):
            for row in rows:
                row["split"] = row.pop(name)
            notes.append(f"{path.name}: the column '{name}' is taken as split.")
            return


def _table(path: Path, columns: dict[str, int], grid: Sequence[Sequence[str]], notes: list[str]) -> Table:
    last = max(columns.values(), default=0)
    rows, numbers = [], []
    for number, cells in enumerate(grid, start=1):
        if not any(cells):
            continue
        if any(cells[last + 1 :]):
            raise InputError(
                f"{path}: row {number} has more cells than the table has columns: put text with the separator in "
                "quotation marks."
            )
        row = {name: original_text(cells[at]) if at < len(cells) else "" for name, at in columns.items()}
        rows.append({name: " ".join(text.split()) if name != "file" else text for name, text in row.items()})
        numbers.append(number)
    _named_split(path, rows, notes)
    notes += _doubts(path, rows)
    return Table(path, tuple(rows[0] if rows else columns), tuple(rows), tuple(numbers), tuple(notes))


def _doubts(path: Path, rows: Sequence[dict[str, str]]) -> list[str]:
    """What a spreadsheet may have changed when the table was opened in it."""
    notes = []
    for column in ("file", "class", "patient", "slide"):
        texts = [row.get(column, "") for row in rows]
        for pattern, what in (
            (
                _SHORTENED,
                "looks like a number that a spreadsheet has shortened, so that several may have become one",
            ),
            (_DATE, "looks like a date that a spreadsheet has made of a name"),
        ):
            found = [text for text in texts if pattern.fullmatch(text)]
            if found:
                others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
                notes.append(f"{path.name}: {column} {found[0]!r}{others} {what}: check it in the original.")
    for number, row in enumerate(rows, start=1):
        for column, text in row.items():
            if _ERROR.fullmatch(text):
                raise InputError(
                    f"{path}: row {number} has the error {text} of a spreadsheet in the column {column}: correct it."
                )
    return notes
