"""Undo and redo: each reviewer's own, and each a new line of the history."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from napari_leukocls.errors import ReviewConflict
from napari_leukocls.review.history import cell_row, class_of, last_said, record
from napari_leukocls.review.records import Correction
from napari_leukocls.review.schema import corrections


def undo(connection: Connection, slide: str, analysis: int, reviewer: str, at: str) -> Correction | None:
    """Take back the reviewer's last correction that stands; None where there is none."""
    done, _ = _stacks(connection, analysis, reviewer)
    if not done:
        return None
    last = done[-1]
    cell = cell_row(connection, analysis, last.cell_id)
    _refuse_if_changed(connection, slide, cell, last.id, reviewer, "undone")
    earlier = None if last.before is None else _row(connection, last.before)
    return record(
        connection,
        slide,
        cell,
        action="undo",
        from_class=last.to_class,
        to_class=earlier.to_class if earlier is not None else "",
        reviewer=reviewer,
        reason="",
        at=at,
        target=last.id,
        in_force=last.before,
    )


def redo(connection: Connection, slide: str, analysis: int, reviewer: str, at: str) -> Correction | None:
    """Put back what the reviewer has undone last, unless another correction followed; None for nothing."""
    _, undone = _stacks(connection, analysis, reviewer)
    if not undone:
        return None
    last = undone[-1]
    cell = cell_row(connection, analysis, last.cell_id)
    _refuse_if_changed(connection, slide, cell, last.before, reviewer, "redone")
    return record(
        connection,
        slide,
        cell,
        action="redo",
        from_class=class_of(connection, cell),
        to_class=last.to_class,
        reviewer=reviewer,
        reason=last.reason,
        at=at,
        target=last.id,
        in_force=last.id,
    )


def _stacks(connection: Connection, analysis: int, reviewer: str) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """The reviewer's corrections that can be undone and redone, each with the last one at the end."""
    rows = connection.execute(
        sa.select(corrections)
        .where(
            corrections.c.analysis == analysis,
            corrections.c.reviewer == reviewer,
            corrections.c.action.in_(("correct", "undo", "redo")),
        )
        .order_by(corrections.c.id)
    )
    done: list[Row[Any]] = []
    undone: list[Row[Any]] = []
    for row in rows:
        if row.action == "correct":
            done.append(row)
            undone.clear()
        elif row.action == "undo":
            undone.append(done.pop())
        else:
            done.append(undone.pop())
    return done, undone


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
