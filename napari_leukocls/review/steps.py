"""Undo and redo: each reviewer's own, and each a new line of the history."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from napari_leukocls.errors import ReviewConflict
from napari_leukocls.review.history import Statement, cell_row, class_of, last_said, record, stacks
from napari_leukocls.review.records import Correction
from napari_leukocls.review.schema import corrections


def undo(connection: Connection, slide: str, analysis: int, reviewer: str, at: str) -> Correction | None:
    """Take back the reviewer's last correction that stands; None where there is none."""
    done = _standing_of(connection, analysis, reviewer)
    if not done:
        return None
    last = done[-1]
    cell = cell_row(connection, analysis, last.cell_id)
    _refuse_if_changed(connection, slide, cell, last.id, reviewer, "undone")
    earlier = None if last.before is None else _row(connection, last.before)
    to_class = earlier.to_class if earlier is not None else ""
    said = Statement("undo", last.to_class, to_class, reviewer, "", at, last.id)
    return record(connection, slide, cell, said, in_force=last.before)


def redo(connection: Connection, slide: str, analysis: int, reviewer: str, at: str) -> Correction | None:
    """Put back what the reviewer has undone last, unless another correction followed; None for nothing."""
    undone = _undone_by(connection, analysis, reviewer)
    if not undone:
        return None
    last = undone[-1]
    cell = cell_row(connection, analysis, last.cell_id)
    _refuse_if_changed(connection, slide, cell, last.before, reviewer, "redone")
    said = Statement("redo", class_of(connection, cell), last.to_class, reviewer, last.reason, at, last.id)
    return record(connection, slide, cell, said, in_force=last.id)


def _standing_of(connection: Connection, analysis: int, reviewer: str) -> list[Row[Any]]:
    """The reviewer's corrections that can be undone, the last one at the end.

    What was said of an earlier analysis of the slide is among them: it was brought along as it lay.
    """
    mine = [
        row for stack in stacks(connection, analysis).values() for row in stack if row.reviewer == reviewer
    ]
    return sorted(mine, key=lambda row: int(row.id))


def _undone_by(connection: Connection, analysis: int, reviewer: str) -> list[Row[Any]]:
    """The reviewer's corrections that can be redone, the last one undone at the end."""
    rows = connection.execute(
        sa.select(corrections)
        .where(
            corrections.c.analysis == analysis,
            corrections.c.reviewer == reviewer,
            corrections.c.action.in_(("correct", "carry", "undo", "redo")),
        )
        .order_by(corrections.c.id)
    )
    undone: list[Row[Any]] = []
    for row in rows:
        if row.action == "undo":
            undone.append(_row(connection, row.target))
        elif row.action == "redo":
            undone.pop()
        else:
            undone.clear()
    return undone


def _refuse_if_changed(
    connection: Connection, slide: str, cell: Row[Any], expected: int | None, reviewer: str, what: str
) -> None:
    if cell.in_force != expected:
        theirs = last_said(connection, slide, cell)
        raise ReviewConflict(
            f"cell {cell.cell_id} was changed to '{theirs.corrected_class or theirs.predicted_class}' by "
            f"{theirs.reviewer} meanwhile and cannot be {what}; correct it instead.",
            theirs=theirs,
        )


def _row(connection: Connection, row_id: int) -> Row[Any]:
    return connection.execute(sa.select(corrections).where(corrections.c.id == row_id)).one()
