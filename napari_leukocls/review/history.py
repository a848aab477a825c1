"""What people say of cells: added to the history and never taken out of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import log
from napari_leukocls.review.records import Correction
from napari_leukocls.review.schema import cells, corrections

_said = corrections.alias("said")


def cell_row(connection: Connection, analysis: int, cell_id: int) -> Row[Any]:
    """Row of a cell.

    Raises
    ------
    ReviewError
        Where the analysis has no such cell.
    """
    row = connection.execute(
        sa.select(cells).where(cells.c.analysis == analysis, cells.c.cell_id == int(cell_id))
    ).first()
    if row is None:
        raise ReviewError(f"the slide has no cell {cell_id}; pick one of its outlines.")
    return row


def class_of(connection: Connection, cell: Row[Any]) -> str:
    """Class of a cell as it stands."""
    if cell.in_force is None:
        return str(cell.predicted_class)
    return str(
        connection.execute(
            sa.select(corrections.c.to_class).where(corrections.c.id == cell.in_force)
        ).scalar_one()
    )


@dataclass(frozen=True)
class Statement:
    """What is said of a cell.

    Attributes
    ----------
    action : str
        As in the table ``corrections``.
    from_class, to_class : str
        `to_class` is "" where the prediction is to stand again.
    reviewer, reason, at : str
    target : int, optional
        The correction that an undo or redo is of.
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
    said: Statement,
    *,
    in_force: int | None = None,
) -> Correction:
    """Add to the history and to the log, and make it what stands (unless it is ``contested``).

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : str
        Key.
    cell : Row
        As it is in this transaction.
    said : Statement
    in_force : int, optional
        The correction that stands afterwards; by default the one added, or none where nothing is said.
    """
    values = {
        "analysis": cell.analysis,
        "cell_id": cell.cell_id,
        "revision": cell.revision + (said.action != "contested"),
        "before": cell.in_force,
        **asdict(said),
    }
    inserted = connection.execute(corrections.insert().values(**values))
    row_id = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    if said.action == "contested":
        stands = cell.in_force
    else:
        own = row_id if said.to_class else None
        stands = own if in_force is None else in_force
        _put_in_force(connection, cell, values["revision"], stands)
    _tell_log(connection, slide, cell, values, row_id, stands)
    return Correction(
        slide,
        cell.cell_id,
        said.from_class,
        said.to_class,
        said.reviewer,
        said.reason,
        said.at,
        cell.predicted_class,
        said.action,
        values["revision"],
    )


def _put_in_force(connection: Connection, cell: Row[Any], revision: int, stands: int | None) -> None:
    """Make a correction, or the prediction (None), what stands of a cell."""
    connection.execute(
        cells.update()
        .where(cells.c.analysis == cell.analysis, cells.c.cell_id == cell.cell_id)
        .values(revision=revision, in_force=stands)
    )


def _tell_log(
    connection: Connection,
    slide: str,
    cell: Row[Any],
    values: dict[str, Any],
    row_id: int,
    stands: int | None,
) -> None:
    """Write a row of the history into the log, with what it was said against and what stands now."""
    told = {name: value for name, value in values.items() if name not in ("reviewer", "at", "action")}
    log.append(
        connection,
        values["reviewer"],
        values["action"],
        values["at"],
        **told,
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
    seen: int,
) -> tuple[Correction, Correction | None]:
    """Give a cell a class, or keep the opinion beside another one that has come meanwhile.

    Parameters
    ----------
    seen : int
        Revision of the cell that the reviewer was looking at.

    Returns
    -------
    mine : Correction
    theirs : Correction or None
        What came meanwhile and says otherwise; then it stands, and `mine` is kept as ``contested``.
    """
    standing = class_of(connection, cell)
    clash = cell.revision != seen and standing != to_class
    action = "contested" if clash else "correct"
    mine = record(connection, slide, cell, Statement(action, standing, to_class, reviewer, reason, at))
    return mine, last_said(connection, slide, cell) if clash else None


def last_said(connection: Connection, slide: str, cell: Row[Any]) -> Correction:
    """The newest change of a cell's class, whoever made it."""
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


def standing(connection: Connection, slide: str, analysis: int) -> dict[int, Correction]:
    """The corrections that stand, by cell."""
    rows = connection.execute(
        sa.select(_said, cells.c.predicted_class)
        .join(cells, cells.c.in_force == _said.c.id)
        .where(cells.c.analysis == analysis)
        .order_by(cells.c.cell_id)
    )
    return {row.cell_id: as_correction(slide, row, row.predicted_class) for row in rows}


def stacks(connection: Connection, analysis: int) -> dict[int, list[Row[Any]]]:
    """By cell, the corrections that undoing would come upon one after the other; what stands is the last."""
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


def everything(connection: Connection, slide: str, analysis: int) -> list[Correction]:
    """All that was ever said of an analysis' cells, oldest first."""
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
    """A row of the history as a value."""
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
