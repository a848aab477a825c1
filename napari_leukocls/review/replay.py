"""The tables worked out again from the log, and where they differ from it."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from napari_leukocls.review.schema import analyses, cells, corrections, readings, sign_offs
from napari_leukocls.review.slides import cells_digest

_CHANGES = ("correct", "undo", "redo", "carry", "contested")
_SAID = ("analysis", "cell_id", "revision", "from_class", "to_class", "reason", "target", "before")
_MODEL = (
    *("digest", "cells_digest", "classifier", "classifier_sha256", "segmenter", "segmenter_sha256"),
    *("settings", "classes", "version", "um_per_px"),
)


class Replay:
    """What the entries of a log amount to."""

    def __init__(self) -> None:
        self._analyses: dict[int, dict[str, Any]] = {}
        self._said: dict[int, tuple[Any, ...]] = {}
        self._stands: dict[tuple[int, int], tuple[int, int | None]] = {}
        self._read: list[tuple[Any, ...]] = []
        self._signed: list[tuple[Any, ...]] = []

    def take(self, seq: int, text: str) -> list[str]:
        """Read the next entry; what is wrong with it as such."""
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
            self._analyses[entry["analysis"]] = {name: entry[name] for name in _MODEL}
        elif action in _CHANGES:
            said = (action, actor, at, *(entry[name] for name in _SAID))
            self._said[entry["id"]] = said
            self._stands[entry["analysis"], entry["cell_id"]] = (entry["revision"], entry["stands"])
        elif action == "read":
            self._read.append((entry["session"], entry["cell_id"], entry["to_class"], at))
        elif action == "sign_off":
            self._signed.append((entry["analysis"], actor, at, entry["n_counted"], entry["state"]))

    def compare(self, connection: Connection) -> list[str]:
        """Where the tables say otherwise than the log."""
        return [
            *self._compare_analyses(connection),
            *self._compare_history(connection),
            *self._compare_standing(connection),
            *self._compare_rest(connection),
        ]

    def _compare_analyses(self, connection: Connection) -> list[str]:
        faults = []
        found = {row.id: row for row in connection.execute(sa.select(analyses))}
        for number in sorted(found.keys() ^ self._analyses.keys()):
            where = "the log" if number in self._analyses else "the tables"
            faults.append(f"analysis {number} is only in {where}.")
        for number in sorted(found.keys() & self._analyses.keys()):
            told = self._analyses[number]
            if any(getattr(found[number], name) != told[name] for name in _MODEL):
                faults.append(f"analysis {number} names other models or settings than the log.")
            query = sa.select(cells).where(cells.c.analysis == number).order_by(cells.c.cell_id)
            rows = [dict(row._mapping) for row in connection.execute(query)]
            if cells_digest(rows) != told["cells_digest"]:
                faults.append(f"the predictions of analysis {number} are not those that were written.")
        return faults

    def _compare_history(self, connection: Connection) -> list[str]:
        faults = []
        left = dict(self._said)
        for row in connection.execute(sa.select(corrections).order_by(corrections.c.id)):
            told = left.pop(row.id, None)
            if told is None:
                faults.append(f"correction {row.id} is not in the log.")
            elif told != (row.action, row.reviewer, row.at, *(getattr(row, name) for name in _SAID)):
                faults.append(f"correction {row.id} (cell {row.cell_id}) is not what the log says.")
        faults += [f"correction {number} is in the log and was taken out of the tables." for number in left]
        return faults

    def _compare_standing(self, connection: Connection) -> list[str]:
        faults = []
        left = {place: stands for place, stands in self._stands.items() if stands != (0, None)}
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
        faults = []
        if read != self._read:
            faults.append("the second reads are not those of the log.")
        if signed != self._signed:
            faults.append("the signatures are not those of the log.")
        return faults


def _signatures() -> sa.Select[tuple[Row[Any], ...]]:
    return sa.select(sign_offs).order_by(sign_offs.c.id)
