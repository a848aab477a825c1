"""Verify and export the log of corrections, and compare it with the tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from napari_leukocls.errors import ArgumentError
from napari_leukocls.io.atomic import atomic_write
from napari_leukocls.io.serialise import safe_text
from napari_leukocls.review.log import ORIGIN, Head, chained, read_anchor
from napari_leukocls.review.schema import (
    analyses,
    audit,
    audit_head,
    cells,
    corrections,
    lifts,
    proficiency_answers,
    readings,
    sign_offs,
)
from napari_leukocls.review.slides import cells_digest
from napari_leukocls.review.text import canonical

if TYPE_CHECKING:
    from napari_leukocls.review.store import ReviewStore

#: Faults that are listed: one changed entry can make thousands of them.
MAX_FAULTS = 20
FORMATS = ("jsonl", "csv")

_CSV_COLUMNS = (
    *("seq", "at", "actor", "action", "slide", "analysis", "cell_id", "from_class", "to_class", "predicted"),
    *("probability", "reason", "id", "stands", "entry", "previous", "hash"),
)
#: Actions that are rows of the table ``corrections``, and the fields that such a row and its entry share.
_CHANGES = ("correct", "undo", "redo", "carry", "contested")
_CHANGE_FIELDS = ("analysis", "cell_id", "revision", "from_class", "to_class", "reason", "target", "before")
#: Fields that an analysis and its entry share.
_ANALYSIS_FIELDS = (
    *("digest", "cells_digest", "classifier", "classifier_sha256", "segmenter", "segmenter_sha256"),
    *("settings", "classes", "version", "um_per_px"),
)


@dataclass(frozen=True)
class Verification:
    """The result of a check of the log.

    Attributes
    ----------
    entries : int
        How many the log has.
    head : Head
        The last entry of the chain. Note it elsewhere, and give it to a later check as `anchor`.
    faults : tuple of str
        One line each; empty if everything is as it was written.
    """

    entries: int
    head: Head
    faults: tuple[str, ...]

    @property
    def whole(self) -> bool:
        """Whether there are no faults."""
        return not self.faults


def verify(store: ReviewStore, anchor: Head | None = None) -> Verification:
    """Check that no entry of the log was changed, deleted or moved, and that the tables agree with the log.

    Parameters
    ----------
    store : ReviewStore
    anchor : Head, optional
        The last entry of the log at an earlier time, as an export or a check returned it. The note that the
        store keeps beside its database is always checked.

    Returns
    -------
    Verification

    Raises
    ------
    ReviewError
        If the database cannot be read.
    """
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
    kept = tuple(faults[:MAX_FAULTS])
    if len(faults) > MAX_FAULTS:
        kept += (f"and {len(faults) - MAX_FAULTS} more.",)
    return Verification(int(entries), last, kept)


def export(store: ReviewStore, path: str | Path, kind: str = "jsonl") -> Head:
    """Write the log to a file, whole or not at all.

    Parameters
    ----------
    store : ReviewStore
    path : path-like
    kind : {"jsonl", "csv"}
        JSON lines hold everything that another program needs to check the log: ``previous``, ``entry`` (the
        text of which the hash is made) and ``hash``. CSV is for spreadsheets; its text is never a formula.

    Returns
    -------
    Head
        The last entry. Keep it elsewhere, to show later that nothing was cut off.

    Raises
    ------
    ArgumentError
        If there is no such kind of file.
    OutputError
        If the file cannot be written.
    """
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
    """The entries of the log, oldest first.

    Parameters
    ----------
    store : ReviewStore

    Yields
    ------
    dict
        As it was written.
    """
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
        return ["the record of the end of the log is missing."]
    if row.seq > last.seq:
        return [f"the log ends at entry {last.seq}, but went on to {row.seq}: its end was cut off."]
    if (row.seq, row.hash) != (last.seq, last.hash):
        return [f"the end of the log differs from its record: entry {last.seq} was added or changed by hand."]
    return []


def _anchor_faults(anchors: list[Head], hashes: dict[int, str], last: Head) -> list[str]:
    faults = []
    for head in anchors:
        if head.seq > last.seq:
            faults.append(f"the log ended at entry {head.seq} before and ends at {last.seq} now: it was cut.")
        elif hashes.get(head.seq) != head.hash:
            faults.append(f"entry {head.seq} is not the one that was noted: the log was written again.")
    return faults


def _json_lines(connection: Connection) -> Iterator[tuple[int, str, str]]:
    for row in _rows(connection):
        line = canonical({"seq": row.seq, "previous": row.previous, "entry": row.entry, "hash": row.hash})
        yield row.seq, row.hash, line + "\n"


def _csv_lines(connection: Connection) -> Iterator[tuple[int, str, str]]:
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
    """A value as the CSV has it: empty for None, and no text that is a formula."""
    if value is None:
        return ""
    return safe_text(value) if isinstance(value, str) else value


class Replay:
    """The state of the tables according to the log: its entries are added one by one, then compared."""

    def __init__(self) -> None:
        self._analyses: dict[int, dict[str, Any]] = {}
        self._changes: dict[int, tuple[Any, ...]] = {}
        self._stands: dict[tuple[int, int], tuple[int, int | None]] = {}
        self._read: list[tuple[Any, ...]] = []
        self._signed: list[tuple[Any, ...]] = []
        self._learnt: list[tuple[Any, ...]] = []
        self._lifted: list[tuple[Any, ...]] = []

    def take(self, seq: int, text: str) -> list[str]:
        """Add the next entry.

        Parameters
        ----------
        seq : int
            Number of the entry.
        text : str
            The entry, JSON.

        Returns
        -------
        list of str
            Faults of the entry itself.
        """
        try:
            entry = json.loads(text)
            if entry["seq"] != seq:
                return [f"entry {seq} was written as entry {entry['seq']}: it was moved."]
            self._take(entry)
        except (ValueError, KeyError, TypeError):
            return [f"entry {seq} cannot be read."]
        return []

    def _take(self, entry: dict[str, Any]) -> None:
        action, actor, at = entry["action"], entry["actor"], entry["at"]
        if action == "analysis":
            self._analyses[entry["analysis"]] = {name: entry[name] for name in _ANALYSIS_FIELDS}
        elif action in _CHANGES:
            change = (action, actor, at, *(entry[name] for name in _CHANGE_FIELDS))
            self._changes[entry["id"]] = change
            self._stands[entry["analysis"], entry["cell_id"]] = (entry["revision"], entry["stands"])
        elif action == "read":
            self._read.append((entry["session"], entry["cell_id"], entry["to_class"], at))
        elif action == "proficiency_answer":
            self._learnt.append((entry["round"], entry["place"], entry["to_class"], at))
        elif action == "sign_off":
            # Before cases, an entry had neither.
            more = (entry.get("case_id"), entry.get("covers"))
            self._signed.append((entry["analysis"], actor, at, entry["n_counted"], entry["state"], *more))
        elif action == "lift":
            self._lifted.append((entry["sign_off"], actor, at, entry["what"]))

    def compare(self, connection: Connection) -> list[str]:
        """Compare the tables with the entries.

        Parameters
        ----------
        connection : Connection

        Returns
        -------
        list of str
            Where they differ.
        """
        return [
            *self._compare_analyses(connection),
            *self._compare_history(connection),
            *self._compare_cells(connection),
            *self._compare_rest(connection),
        ]

    def _compare_analyses(self, connection: Connection) -> list[str]:
        faults = []
        found = {row.id: row for row in connection.execute(sa.select(analyses))}
        for number in sorted(found.keys() ^ self._analyses.keys()):
            where = "the log" if number in self._analyses else "the tables"
            faults.append(f"analysis {number} is only in {where}.")
        for number in sorted(found.keys() & self._analyses.keys()):
            logged = self._analyses[number]
            if any(getattr(found[number], name) != logged[name] for name in _ANALYSIS_FIELDS):
                faults.append(f"analysis {number} names other models or settings than the log.")
            query = sa.select(cells).where(cells.c.analysis == number).order_by(cells.c.cell_id)
            rows = [dict(row._mapping) for row in connection.execute(query)]
            if cells_digest(rows) != logged["cells_digest"]:
                faults.append(f"the predictions of analysis {number} are not those that were written.")
        return faults

    def _compare_history(self, connection: Connection) -> list[str]:
        faults = []
        left = dict(self._changes)
        for row in connection.execute(sa.select(corrections).order_by(corrections.c.id)):
            logged = left.pop(row.id, None)
            if logged is None:
                faults.append(f"correction {row.id} is not in the log.")
            elif logged != (
                row.action,
                row.reviewer,
                row.at,
                *(getattr(row, name) for name in _CHANGE_FIELDS),
            ):
                faults.append(f"correction {row.id} (cell {row.cell_id}) is not what the log says.")
        faults += [f"correction {number} is in the log and was taken out of the tables." for number in left]
        return faults

    def _compare_cells(self, connection: Connection) -> list[str]:
        faults = []
        left = {cell: stands for cell, stands in self._stands.items() if stands != (0, None)}
        query = sa.select(cells.c.analysis, cells.c.cell_id, cells.c.revision, cells.c.in_force)
        changed = query.where(sa.or_(cells.c.revision != 0, cells.c.in_force.is_not(None)))
        for row in connection.execute(changed):
            if left.pop((row.analysis, row.cell_id), None) != (row.revision, row.in_force):
                faults.append(
                    f"cell {row.cell_id} of analysis {row.analysis} has another class than the log."
                )
        faults += [
            f"cell {cell} of analysis {number} has another class than the log." for number, cell in left
        ]
        return faults

    def _compare_rest(self, connection: Connection) -> list[str]:
        read = [tuple(row)[1:] for row in connection.execute(sa.select(readings).order_by(readings.c.id))]
        signed = [tuple(row)[1:] for row in connection.execute(_signatures())]
        lifted = [tuple(row)[1:] for row in connection.execute(sa.select(lifts).order_by(lifts.c.id))]
        faults = []
        if read != self._read:
            faults.append("the second reads are not those of the log.")
        if signed != self._signed:
            faults.append("the signatures are not those of the log.")
        answers = sa.select(proficiency_answers).order_by(proficiency_answers.c.id)
        if [tuple(row)[1:] for row in connection.execute(answers)] != self._learnt:
            faults.append("the answers of proficiency rounds are not those of the log.")
        if lifted != self._lifted:
            faults.append("the lifted signatures are not those of the log.")
        return faults


def _signatures() -> sa.Select[tuple[Row[Any], ...]]:
    return sa.select(sign_offs).order_by(sign_offs.c.id)
