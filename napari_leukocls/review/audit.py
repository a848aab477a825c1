"""Checking and exporting the log of the review store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.text import safe_text
from napari_leukocls.review.log import ORIGIN, Head, chained, read_anchor
from napari_leukocls.review.schema import audit, audit_head
from napari_leukocls.review.text import canonical

if TYPE_CHECKING:
    from napari_leukocls.review.store import ReviewStore

#: Faults that are listed; one change of an old entry need not fill a screen.
MOST_FAULTS = 20
FORMATS = ("jsonl", "csv")
_CSV_COLUMNS = (
    *("seq", "at", "actor", "action", "slide", "analysis", "cell_id", "from_class", "to_class", "predicted"),
    *("probability", "reason", "id", "stands", "entry", "previous", "hash"),
)


@dataclass(frozen=True)
class Verification:
    """What a check of the log found.

    Attributes
    ----------
    entries : int
    head : Head
        The last entry that the chain leads to; to be noted elsewhere and given to a later check.
    faults : tuple of str
        One line each; none where everything is as it was written.
    """

    entries: int
    head: Head
    faults: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


def verify(store: ReviewStore, anchor: Head | None = None) -> Verification:
    """Look for any change, deletion or re-ordering in the log, and for tables that say otherwise.

    Parameters
    ----------
    store : ReviewStore
    anchor : Head, optional
        Where the log ended at some earlier time, as an export or a check said it. The note that the store
        keeps beside its database is looked at in any case.
    """
    from napari_leukocls.review.replay import Replay

    faults: list[str] = []
    replay = Replay()
    last = Head(0, ORIGIN)
    anchors = [head for head in (anchor, read_anchor(store.anchor)) if head is not None]
    hashes: dict[int, str] = {}
    wanted = {head.seq for head in anchors}
    with store.database.read() as connection:
        for row in _rows(connection):
            faults += _link_faults(row, last)
            last = Head(row.seq, row.hash)
            if row.seq in wanted:
                hashes[row.seq] = row.hash
            faults += replay.take(row.seq, row.entry)
        faults += _end_faults(connection, last)
        faults += _anchor_faults(anchors, hashes, last)
        faults += replay.compare(connection)
        entries = connection.execute(sa.select(sa.func.count()).select_from(audit)).scalar_one()
    kept = tuple(faults[:MOST_FAULTS])
    if len(faults) > MOST_FAULTS:
        kept += (f"and {len(faults) - MOST_FAULTS} more.",)
    return Verification(int(entries), last, kept)


def export(store: ReviewStore, path: str | Path, kind: str = "jsonl") -> Head:
    """Write the log to a file, whole or not at all.

    Parameters
    ----------
    store : ReviewStore
    path : path-like
    kind : {"jsonl", "csv"}
        JSON lines hold all that a check by other means needs: ``previous``, ``entry`` (the text that was
        hashed) and ``hash``. CSV is for spreadsheets; its texts run nothing.

    Returns
    -------
    Head
        Where the log ends; keep it elsewhere to prove later that nothing was cut off.

    Raises
    ------
    OutputError
        Where it cannot be written.
    """
    from napari_leukocls.io.atomic import atomic_write

    if kind not in FORMATS:
        raise ArgumentError(f"the log cannot be exported as '{kind}'; give {' or '.join(FORMATS)}.")
    last = Head(0, ORIGIN)
    with store.database.read() as connection, atomic_write(path, "w") as file:
        lines = _json_lines if kind == "jsonl" else _csv_lines
        for seq, digest, line in lines(connection):
            file.write(line)
            last = Head(seq, digest)
    return last


def entries(store: ReviewStore) -> Iterator[dict[str, Any]]:
    """Entries of the log, oldest first, as they were written."""
    with store.database.read() as connection:
        for row in _rows(connection):
            yield json.loads(row.entry)


def _rows(connection: Connection) -> Iterator[Any]:
    yield from connection.execution_options(yield_per=1000).execute(sa.select(audit).order_by(audit.c.seq))


def _link_faults(row: Any, last: Head) -> list[str]:
    """What is wrong between an entry and the one before it."""
    faults = []
    if row.seq != last.seq + 1:
        gap = f"{last.seq + 1} to {row.seq - 1}" if row.seq > last.seq + 2 else f"{last.seq + 1}"
        faults.append(f"entry {gap} is missing.")
    elif row.previous != last.hash:
        faults.append(f"entry {row.seq} does not follow entry {last.seq}: one was changed or moved.")
    if chained(row.previous, row.entry) != row.hash:
        faults.append(f"entry {row.seq} is not what was written.")
    return faults


def _end_faults(connection: Connection, last: Head) -> list[str]:
    row = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).first()
    if row is None:
        return ["the record of where the log ends is gone."]
    if row.seq > last.seq:
        return [f"the log ends at entry {last.seq}, but went on to {row.seq}: its end was cut off."]
    if (row.seq, row.hash) != (last.seq, last.hash):
        return [f"the log ends otherwise than was recorded: entry {last.seq} was added or changed by hand."]
    return []


def _anchor_faults(anchors: list[Head], hashes: dict[int, str], last: Head) -> list[str]:
    faults = []
    for head in anchors:
        if head.seq > last.seq:
            faults.append(f"the log ended at entry {head.seq} before and ends at {last.seq} now: it was cut.")
        elif hashes.get(head.seq) != head.hash:
            faults.append(f"entry {head.seq} is not the one that was noted: the log was written anew.")
    return faults


def _json_lines(connection: Connection) -> Iterator[tuple[int, str, str]]:
    for row in _rows(connection):
        line = canonical({"seq": row.seq, "previous": row.previous, "entry": row.entry, "hash": row.hash})
        yield row.seq, row.hash, line + "\n"


def _csv_lines(connection: Connection) -> Iterator[tuple[int, str, str]]:
    import csv
    import io

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for row in _rows(connection):
        entry = json.loads(row.entry)
        values = {**entry, "seq": row.seq, "entry": row.entry, "previous": row.previous, "hash": row.hash}
        writer.writerow([_cell(values.get(name)) for name in _CSV_COLUMNS])
        yield row.seq, row.hash, buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Any) -> Any:
    """A value as a CSV shows it: nothing for none, and no text that a spreadsheet runs."""
    if value is None:
        return ""
    return safe_text(value) if isinstance(value, str) else value
