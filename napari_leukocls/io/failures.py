"""The list of inputs that failed, beside the results of those that did not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from napari_leukocls.io.atomic import atomic_text, output_error
from napari_leukocls.io.text import safe_text

FAILURES_NAME = "failures.csv"


def write_failures(out_dir: Path, failures: Iterable[tuple[str, str, str]]) -> Path | None:
    """Write ``failures.csv``; where there are none, remove that of an earlier run.

    Parameters
    ----------
    out_dir : pathlib.Path
        Must exist.
    failures : iterable of (slide_id, source, error)

    Returns
    -------
    pathlib.Path or None
        The file, where there was something to write.

    Raises
    ------
    OutputError
        Where it cannot be written or removed.
    """
    file = out_dir / FAILURES_NAME
    rows = [tuple(safe_text(cell) for cell in row) for row in failures]
    if not rows:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise output_error(file, error) from error
        return None
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(("slide_id", "source", "error"))
    writer.writerows(rows)
    atomic_text(file, table.getvalue())
    return file
