"""Text cells that a spreadsheet shows and does not run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from napari_leukocls.io.atomic import atomic_bytes

_RUNS = ("=", "+", "-", "@", "\t", "\r")


def safe_text(value: str) -> str:
    """Put an apostrophe before text that a spreadsheet would take for a formula.

    Parameters
    ----------
    value : str
        A text cell of a CSV. Numbers are not text: do not pass them.

    Returns
    -------
    str
        Unchanged unless it begins with ``=``, ``+``, ``-``, ``@``, tab or carriage return.
    """
    return f"'{value}" if value.startswith(_RUNS) else value


_SIGNIFICANT = "%.6g"


def table_bytes(table: pd.DataFrame) -> bytes:
    """A table as CSV: floats to six significant digits, and text that no spreadsheet runs."""
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
