"""Tables, JSON and hashes as files hold them: each rule once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.io.atomic import atomic_bytes, atomic_text

if TYPE_CHECKING:
    import pandas as pd

#: Text that begins with one of these is a formula to a spreadsheet program.
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
#: Six significant digits.
_FLOATS = "%.6g"
#: Kinds of columns without text: booleans, integers, floats, complex numbers.
_NUMBERS = "biufc"


def safe_text(value: str) -> str:
    """Put an apostrophe before text that a spreadsheet would take for a formula.

    Parameters
    ----------
    value : str
        A text cell of a CSV. Do not pass numbers as text.

    Returns
    -------
    str
        Unchanged unless it begins with ``=``, ``+``, ``-``, ``@``, tab or carriage return.
    """
    return f"'{value}" if value.startswith(_FORMULA_SIGNS) else value


def original_text(value: str) -> str:
    """Remove the apostrophe that `safe_text` put before a text.

    Parameters
    ----------
    value : str
        A text cell of a CSV.

    Returns
    -------
    str
    """
    return value[1:] if value.startswith("'") and value[1:].startswith(_FORMULA_SIGNS) else value


def table_bytes(table: pd.DataFrame) -> bytes:
    """Encode a table as CSV.

    Parameters
    ----------
    table : pandas.DataFrame

    Returns
    -------
    bytes
        UTF-8. Floats have six significant digits; no text is run by a spreadsheet (`safe_text`).
    """
    safe = table.copy()
    for name in table.columns:
        column = table[name]
        if column.dtype.kind == "f":
            # Adding zero turns -0.0 into 0.
            safe[name] = column + 0.0
        elif column.dtype.kind not in _NUMBERS:
            safe[name] = column.map(lambda value: safe_text(value) if isinstance(value, str) else value)
    text: str = safe.to_csv(index=False, float_format=_FLOATS, lineterminator="\n", na_rep="")
    return text.encode("utf-8", errors="surrogateescape")


def write_table(table: pd.DataFrame, path: str | Path) -> Path:
    """Write a table as CSV.

    Parameters
    ----------
    table : pandas.DataFrame
    path : path-like
        The file appears under this name only when it is whole.

    Returns
    -------
    Path
        The same.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    atomic_bytes(path, table_bytes(table))
    return Path(path)


def to_plain(value: Any) -> Any:
    """Convert a value to what JSON can hold.

    Parameters
    ----------
    value : object
        Mappings, sequences, sets, NumPy arrays and scalars, in any depth.

    Returns
    -------
    object
        Made of dict, list, str, int, float, bool and None. Sets are sorted lists, numbers that are not finite are
        None, and anything else (such as a path) is its text.
    """
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return [to_plain(item) for item in sorted(value)]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, bool, int)) else str(value)


def json_text(value: Any, *, sort_keys: bool = False) -> str:
    """Encode a value as JSON that people can read.

    Parameters
    ----------
    value : object
        As `to_plain` takes it.
    sort_keys : bool
        Whether names come in alphabetical order.

    Returns
    -------
    str
        ASCII, indented by two spaces, with a line break at the end.
    """
    text = json.dumps(to_plain(value), indent=2, sort_keys=sort_keys, ensure_ascii=True, allow_nan=False)
    return f"{text}\n"


def write_json(path: str | Path, value: Any, *, sort_keys: bool = False) -> Path:
    """Write a value as JSON; see `json_text`.

    Parameters
    ----------
    path : path-like
        The file appears under this name only when it is whole.
    value : object
    sort_keys : bool

    Returns
    -------
    Path
        The same as `path`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    atomic_text(path, json_text(value, sort_keys=sort_keys))
    return Path(path)


def sha256_of(content: Path | bytes) -> str:
    """Compute the SHA-256 of a file or of bytes.

    Parameters
    ----------
    content : Path or bytes
        A path is read as a file, in pieces.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with open(content, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
