"""Corrections of the class of a cell: made, undone and redone."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from napari_leukocls.errors import ReviewConflict, ReviewError
from napari_leukocls.review import log
from napari_leukocls.review.records import Correction
from napari_leukocls.review.schema import cells, corrections

#: Corrections that are joined by their number to the cells where they are in force.
_in_force = corrections.alias("in_force_correction")


def cell_row(connection: Connection, analysis: int, cell_id: int) -> Row[Any]:
    """The row of a cell.

    Parameters
    ----------
    connection : Connection
    analysis, cell_id : int

    Returns
    -------
    Row

    Raises
    ------
    ReviewError
        If the analysis has no such cell.
    """
    row = connection.execute(
        sa.select(cells).where(cells.c.analysis == analysis, cells.c.cell_id == int(cell_id))
    ).first()
    if row is None:
        raise ReviewError(f"the slide has no cell {cell_id}; pick one of its outlines.")
    return row


def class_of(connection: Connection, cell: Row[Any]) -> str:
    """The current class of a cell: the corrected one, or the predicted one.

    Parameters
    ----------
    connection : Connection
    cell : Row

    Returns
    -------
    str
    """
    if cell.in_force is None:
        return str(cell.predicted_class)
    return str(
        connection.execute(
            sa.select(corrections.c.to_class).where(corrections.c.id == cell.in_force)
        ).scalar_one()
    )


@dataclass(frozen=True)
class Change:
    """One change of the class of a cell.

    Attributes
    ----------
    action : str
        As in the table ``corrections``.
    from_class, to_class : str
        Class before and after; `to_class` is "" if the prediction is valid again.
    reviewer, reason : str
    at : str
        UTC, ISO 8601.
    target : int, optional
        The correction that is undone or redone.
    """

    action: str
    from_class: str
    to_class: str
    reviewer: str
    reason: str
    at: str
    target: int | None = None


def record(
    connection: Connection,
    slide: str,
    cell: Row[Any],
    change: Change,
    *,
    in_force: int | None = None,
) -> Correction:
    """Add a change to the history and to the log, and put it in force unless its action is ``contested``.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : str
        Key.
    cell : Row
        As it is in this transaction.
    change : Change
    in_force : int, optional
        The correction that is in force afterwards; by default the new one, or none if its `to_class` is "".

    Returns
    -------
    Correction
    """
    values = {
        "analysis": cell.analysis,
        "cell_id": cell.cell_id,
        "revision": cell.revision + (change.action != "contested"),
        "before": cell.in_force,
        **asdict(change),
    }
    inserted = connection.execute(corrections.insert().values(**values))
    row_id = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    if change.action == "contested":
        stands = cell.in_force
    else:
        own = row_id if change.to_class else None
        stands = own if in_force is None else in_force
        _put_in_force(connection, cell, values["revision"], stands)
    _log_change(connection, slide, cell, values, row_id, stands)
    return Correction(
        slide,
        cell.cell_id,
        change.from_class,
        change.to_class,
        change.reviewer,
        change.reason,
        change.at,
        cell.predicted_class,
        change.action,
        values["revision"],
    )


def _put_in_force(connection: Connection, cell: Row[Any], revision: int, stands: int | None) -> None:
    """Set the correction that is in force for a cell; None for the prediction."""
    connection.execute(
        cells.update()
        .where(cells.c.analysis == cell.analysis, cells.c.cell_id == cell.cell_id)
        .values(revision=revision, in_force=stands)
    )


def _log_change(
    connection: Connection,
    slide: str,
    cell: Row[Any],
    values: dict[str, Any],
    row_id: int,
    stands: int | None,
) -> None:
    """Write a change to the log, with the prediction and the correction that is in force now."""
    details = {name: value for name, value in values.items() if name not in ("reviewer", "at", "action")}
    log.append(
        connection,
        values["reviewer"],
        values["action"],
        values["at"],
        **details,
        slide=slide,
        id=row_id,
        stands=stands,
        predicted=cell.predicted_class,
        probability=cell.probability,
    )


def correct(
    connection: Connection,
    slide: str,
    cell: Row[Any],
    to_class: str,
    reviewer: str,
    reason: str,
    at: str,
    known_revision: int,
) -> tuple[Correction, Correction | None]:
    """Give a cell a class; if another person changed the cell in the meantime, only keep the opinion.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : str
        Key.
    cell : Row
        As it is in this transaction.
    to_class, reviewer, reason : str
    at : str
        UTC, ISO 8601.
    known_revision : int
        Revision of the cell that the reviewer's window showed.

    Returns
    -------
    mine : Correction
    theirs : Correction or None
        The other person's change, if it gave another class. It stays in force, and `mine` is ``contested``.
    """
    current = class_of(connection, cell)
    clash = cell.revision != known_revision and current != to_class
    action = "contested" if clash else "correct"
    mine = record(connection, slide, cell, Change(action, current, to_class, reviewer, reason, at))
    return mine, newest_change(connection, slide, cell) if clash else None


def newest_change(connection: Connection, slide: str, cell: Row[Any]) -> Correction:
    """The newest change of the class of a cell, by any person.

    Parameters
    ----------
    connection : Connection
    slide : str
        Key.
    cell : Row

    Returns
    -------
    Correction
    """
    row = connection.execute(
        sa.select(corrections)
        .where(
            corrections.c.analysis == cell.analysis,
            corrections.c.cell_id == cell.cell_id,
            corrections.c.action != "contested",
        )
        .order_by(corrections.c.id.desc())
        .limit(1)
    ).one()
    return as_correction(slide, row, cell.predicted_class)


def in_force_corrections(connection: Connection, slide: str, analysis: int) -> dict[int, Correction]:
    """The corrections that are in force.

    Parameters
    ----------
    connection : Connection
    slide : str
        Key.
    analysis : int

    Returns
    -------
    dict of int to Correction
        By ``cell_id``.
    """
    rows = connection.execute(
        sa.select(_in_force, cells.c.predicted_class)
        .join(cells, cells.c.in_force == _in_force.c.id)
        .where(cells.c.analysis == analysis)
        .order_by(cells.c.cell_id)
    )
    return {row.cell_id: as_correction(slide, row, row.predicted_class) for row in rows}


def undo_stacks(connection: Connection, analysis: int) -> dict[int, list[Row[Any]]]:
    """The corrections of each corrected cell in the order of undo: the last one is in force.

    Parameters
    ----------
    connection : Connection
    analysis : int

    Returns
    -------
    dict of int to list of Row
        By ``cell_id``.
    """
    rows = {
        row.id: row
        for row in connection.execute(sa.select(corrections).where(corrections.c.analysis == analysis))
    }
    changed = connection.execute(
        sa.select(cells.c.cell_id, cells.c.in_force).where(
            cells.c.analysis == analysis, cells.c.in_force.is_not(None)
        )
    )
    found = {}
    for cell_id, in_force in changed:
        stack = []
        at = in_force
        while at is not None:
            stack.append(rows[at])
            at = rows[at].before
        found[cell_id] = stack[::-1]
    return found


def revisions(connection: Connection, analysis: int) -> dict[int, int]:
    """How often the class of each cell was changed.

    Parameters
    ----------
    connection : Connection
    analysis : int

    Returns
    -------
    dict of int to int
        By ``cell_id``, without cells that were never changed.
    """
    rows = connection.execute(
        sa.select(cells.c.cell_id, cells.c.revision).where(cells.c.analysis == analysis, cells.c.revision > 0)
    )
    return {row[0]: row[1] for row in rows}


def all_changes(connection: Connection, slide: str, analysis: int) -> list[Correction]:
    """All changes of the cells of an analysis, oldest first.

    Parameters
    ----------
    connection : Connection
    slide : str
        Key.
    analysis : int

    Returns
    -------
    list of Correction
    """
    rows = connection.execute(
        sa.select(corrections, cells.c.predicted_class)
        .join(
            cells,
            sa.and_(cells.c.analysis == corrections.c.analysis, cells.c.cell_id == corrections.c.cell_id),
        )
        .where(corrections.c.analysis == analysis)
        .order_by(corrections.c.id)
    )
    return [as_correction(slide, row, row.predicted_class) for row in rows]


def as_correction(slide: str, row: Row[Any], predicted: str) -> Correction:
    """A row of the history as a value.

    Parameters
    ----------
    slide : str
        Key.
    row : Row
        Of the table ``corrections``.
    predicted : str
        Predicted class of the cell.

    Returns
    -------
    Correction
    """
    return Correction(
        slide,
        row.cell_id,
        row.from_class,
        row.to_class,
        row.reviewer,
        row.reason,
        row.at,
        predicted,
        row.action,
        row.revision,
    )


def undo(connection: Connection, fields: dict[int, str], reviewer: str, at: str) -> Correction | None:
    """Undo the reviewer's last correction that is in force.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    fields : dict of int to str
        Keys of slides by their analysis.
    reviewer : str
    at : str
        UTC, ISO 8601.

    Returns
    -------
    Correction or None
        None if there is nothing to undo.

    Raises
    ------
    ReviewConflict
        If another person has changed the cell since.
    """
    done = [row for analysis in fields for row in _undoable(connection, analysis, reviewer)]
    if not done:
        return None
    last = max(done, key=lambda row: int(row.id))
    slide, cell = fields[last.analysis], cell_row(connection, last.analysis, last.cell_id)
    _refuse_if_changed(connection, slide, cell, last.id, "undone")
    earlier = None if last.before is None else _row(connection, last.before)
    to_class = earlier.to_class if earlier is not None else ""
    change = Change("undo", last.to_class, to_class, reviewer, "", at, last.id)
    return record(connection, slide, cell, change, in_force=last.before)


def redo(connection: Connection, fields: dict[int, str], reviewer: str, at: str) -> Correction | None:
    """Redo what the reviewer undid last, unless another correction followed.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    fields : dict of int to str
        Keys of slides by their analysis.
    reviewer : str
    at : str
        UTC, ISO 8601.

    Returns
    -------
    Correction or None
        None if there is nothing to redo.

    Raises
    ------
    ReviewConflict
        If another person has changed the cell since.
    """
    undone = _redoable(connection, list(fields), reviewer)
    if not undone:
        return None
    last = undone[-1]
    slide, cell = fields[last.analysis], cell_row(connection, last.analysis, last.cell_id)
    _refuse_if_changed(connection, slide, cell, last.before, "redone")
    change = Change("redo", class_of(connection, cell), last.to_class, reviewer, last.reason, at, last.id)
    return record(connection, slide, cell, change, in_force=last.id)


def _undoable(connection: Connection, analysis: int, reviewer: str) -> list[Row[Any]]:
    """The reviewer's corrections that can be undone. Those of an earlier analysis of the slide are among them."""
    return [
        row
        for stack in undo_stacks(connection, analysis).values()
        for row in stack
        if row.reviewer == reviewer
    ]


def _redoable(connection: Connection, analyses: list[int], reviewer: str) -> list[Row[Any]]:
    """The reviewer's corrections that can be redone, the last undone one at the end."""
    rows = connection.execute(
        sa.select(corrections)
        .where(
            corrections.c.analysis.in_(analyses),
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
    connection: Connection, slide: str, cell: Row[Any], expected: int | None, what: str
) -> None:
    if cell.in_force != expected:
        theirs = newest_change(connection, slide, cell)
        raise ReviewConflict(
            f"cell {cell.cell_id} was changed to '{theirs.corrected_class or theirs.predicted_class}' by "
            f"{theirs.reviewer} meanwhile and cannot be {what}; correct it instead.",
            theirs=theirs,
        )


def _row(connection: Connection, row_id: int) -> Row[Any]:
    return connection.execute(sa.select(corrections).where(corrections.c.id == row_id)).one()
