"""The table of labelled crops: its rows to crops, and crops to its rows."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from napari_leukocls.classification.labelled_crop import Colour, LabelledCrop
from napari_leukocls.datasets.marked import Finder
from napari_leukocls.datasets.tables import Table
from napari_leukocls.decimals import parse_decimal
from napari_leukocls.errors import InputError
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.io.serialise import safe_text
from napari_leukocls.models.provenance import part_named
from napari_leukocls.plurals import count_text, first_names
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import LEAST_UM_PER_PX, MOST_UM_PER_PX

#: Folder for masks of cells beside the crops.
MASKS_FOLDER = "masks"
#: Columns of a table of labelled crops; all but the first two may be missing.
COLUMNS = (
    *("file", "class", "patient", "slide", "split", "um_per_px", "mask", "glass", "red_cell_density"),
    *("box", "outline"),
)


def crops_of(table: Table, scheme: Scheme) -> tuple[list[LabelledCrop], list[str]]:
    """List the crops of a table.

    Parameters
    ----------
    table : Table
    scheme : Scheme
        Its aliases are understood as names of classes.

    Returns
    -------
    crops : list of LabelledCrop
        A row that stands twice is one crop.
    notes : list of str
        How the table was understood.

    Raises
    ------
    InputError
        If a row is wrong, or two rows contradict each other.
    """
    finder = Finder(table.path.parent)
    crops: dict[str, tuple[LabelledCrop, int]] = {}
    twice: list[str] = []
    for row, number in zip(table.rows, table.numbers, strict=True):
        crop = _crop(row, number, table.path, scheme, finder)
        key = f"{crop.path}#{crop.box}"
        if key in crops:
            crops[key] = (_merged(crops[key], (crop, number), table.path), crops[key][1])
            twice.append(crop.file)
        else:
            crops[key] = (crop, number)
    notes = [*table.notes, *finder.note()]
    if twice:
        n = count_text(len(twice), "row of the table repeats", "rows of the table repeat")
        notes.append(f"{n} a file, which is taken once: {first_names(dict.fromkeys(twice))}.")
    return [crop for crop, _ in crops.values()], notes


def _crop(row: dict[str, str], number: int, table: Path, scheme: Scheme, finder: Finder) -> LabelledCrop:
    if not row["file"].strip() or not row["class"].strip():
        raise InputError(f"{table}: row {number} has no file or no class: fill it in or delete it.")
    mask = row.get("mask", "").strip()
    path = finder.find(row["file"])
    file = row["file"] if "\\" not in row["file"] else finder.relative(path)
    box = _box(row.get("box", ""), number, table)
    return LabelledCrop(
        file if box is None else boxed(file, box),
        path,
        scheme.resolve(row["class"]) or row["class"],
        _pixel_size(row.get("um_per_px", ""), table),
        row.get("patient", ""),
        row.get("slide", ""),
        part_named(row.get("split", ""), row["file"]),
        finder.find(mask) if mask else None,
        _colour(row.get("glass", ""), "glass", table),
        _colour(row.get("red_cell_density", ""), "red_cell_density", table),
        box,
        _outline(row.get("outline", ""), number, table),
    )


def boxed(file: str, box: Sequence[int]) -> str:
    """Name a cell of a field.

    Parameters
    ----------
    file : str
        Of the field.
    box : sequence of 4 int

    Returns
    -------
    str
    """
    return f"{file}#{'-'.join(str(side) for side in box)}"


def _merged(first: tuple[LabelledCrop, int], second: tuple[LabelledCrop, int], table: Path) -> LabelledCrop:
    """One crop of two rows of the same file, which must not contradict each other."""
    filled = {}
    for name, column in (
        ("class_name", "class"),
        ("patient", "patient"),
        ("slide", "slide"),
        ("split", "split"),
    ):
        one, other = getattr(first[0], name), getattr(second[0], name)
        if one and other and one != other:
            raise InputError(
                f"{table}: {first[0].file} has two entries for {column}, {one!r} in row {first[1]} and {other!r} "
                f"in row {second[1]}: correct the wrong one."
            )
        filled[name] = one or other
    return replace(first[0], **filled)


def _pixel_size(text: str, table: Path) -> float | None:
    if not text.strip():
        return None
    try:
        value = parse_decimal(text, LEAST_UM_PER_PX, MOST_UM_PER_PX)
    except ValueError:
        value = float("nan")
    if not LEAST_UM_PER_PX < value < MOST_UM_PER_PX:
        raise InputError(f"{table}: um_per_px {text!r} is no pixel size in micrometres.")
    return value


def _colour(text: str, column: str, table: Path) -> Colour | None:
    """Read three numbers, ``[r, g, b]``; null is NaN, an empty cell None."""
    if not text.strip():
        return None
    try:
        red, green, blue = (float("nan") if value is None else float(value) for value in json.loads(text))
    except (TypeError, ValueError) as error:
        raise InputError(f"{table}: {column} {text!r} is not [r, g, b]: correct it, or empty it.") from error
    return red, green, blue


def _box(text: str, number: int, table: Path) -> tuple[int, int, int, int] | None:
    """Read ``[x0, y0, x1, y1]``."""
    if not text.strip():
        return None
    try:
        x0, y0, x1, y1 = (int(value) for value in json.loads(text))
        if x0 >= x1 or y0 >= y1 or max(map(abs, (x0, y0, x1, y1))) > 1 << 30:
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{table}: row {number}: the box {text!r} is not [x0, y0, x1, y1]: correct it."
        ) from error
    return x0, y0, x1, y1


def _outline(text: str, number: int, table: Path) -> tuple[tuple[float, ...], ...]:
    """Read polygons ``[[x, y, x, y, ...], ...]``."""
    if not text.strip():
        return ()
    try:
        rings = tuple(tuple(float(value) for value in ring) for ring in json.loads(text))
        if any(len(ring) < 6 or len(ring) % 2 or not np.isfinite(ring).all() for ring in rings):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{table}: row {number}: the outline is not [[x, y, x, y, ...]]: correct it."
        ) from error
    return rings


def crop_cells(crop: LabelledCrop) -> dict[str, str]:
    """Return a crop's row of a table of labelled crops.

    Parameters
    ----------
    crop : LabelledCrop

    Returns
    -------
    dict of str to str
        Text by name of column; paths are absolute.
    """
    return {
        "file": str(crop.path.resolve()),
        "class": crop.class_name,
        "patient": crop.patient,
        "slide": crop.slide,
        "split": crop.split,
        "um_per_px": "" if crop.um_per_px is None else repr(float(crop.um_per_px)),
        "mask": "" if crop.mask_path is None else str(crop.mask_path.resolve()),
        "glass": _colour_text(crop.glass),
        "red_cell_density": _colour_text(crop.red_cell_density),
        "box": "" if crop.box is None else json.dumps(crop.box),
        "outline": json.dumps(crop.outline) if crop.outline else "",
    }


def _colour_text(colour: Colour | None) -> str:
    if colour is None:
        return ""
    return json.dumps([float(value) if np.isfinite(value) else None for value in colour])


def write_crop_table(crops: Iterable[LabelledCrop], path: Path) -> Path:
    """Write a table of labelled crops that `napari_leukocls.classification.dataset.list_crops` reads back.

    Parameters
    ----------
    crops : iterable of LabelledCrop
        Their images are files.
    path : Path

    Returns
    -------
    Path
        The same.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for crop in crops:
        cells = crop_cells(crop)
        writer.writerow([safe_text(cells[column]) for column in COLUMNS])
    atomic_text(path, text.getvalue())
    return path
