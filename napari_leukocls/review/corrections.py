"""Correct, undo, redo, migrate to a new analysis."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from scipy.spatial import cKDTree
from sqlalchemy.engine import Connection, Row

from napari_leukocls.errors import ReviewConflict, ReviewError
from napari_leukocls.review import log
from napari_leukocls.review.records import Correction
from napari_leukocls.review.schema import cells, corrections
from napari_leukocls.review.slides import boxes
from napari_leukocls.review.text import now

#: Overlap (intersection over union of the boxes) from which a cell is the same one in another analysis.
SAME_CELL = 0.5


def carry(connection: Connection, slide_key: str, source: int, target: int) -> int:
    """Bring what stands in one analysis of a slide over to another, cell by cell; how many changed.

    Cells are matched by their boxes, each with the one that it overlaps most and at least by `SAME_CELL`. What
    lies beneath a standing correction comes with it, in the order in which it was said: undoing goes on where
    it would have in the analysis before.
    """
    at = now()
    there, here = stacks(connection, source), stacks(connection, target)
    changed: set[int] = set()
    brought: list[tuple[int, Row[Any]]] = []
    for old, new in match(boxes(connection, source), boxes(connection, target)):
        theirs, ours = there.get(old, []), here.get(new, [])
        alike = _alike(theirs, ours)
        if len(ours) > alike:
            _take_off(connection, slide_key, cell_row(connection, target, new), ours, alike, at)
            changed.add(new)
        brought += [(new, row) for row in theirs[alike:]]
    for new, row in sorted(brought, key=lambda load: int(load[1].id)):
        cell = cell_row(connection, target, new)
        said = Statement("carry", class_of(connection, cell), row.to_class, row.reviewer, row.reason, at)
        record(connection, slide_key, cell, said)
        changed.add(new)
    return len(changed)


def _alike(theirs: list[Row[Any]], ours: list[Row[Any]]) -> int:
    """How many corrections, from the bottom, two stacks have in common."""
    for place, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        if (one.to_class, one.reviewer) != (other.to_class, other.reviewer):
            return place
    return min(len(theirs), len(ours))


def _take_off(
    connection: Connection, slide_key: str, cell: Row[Any], stack: list[Row[Any]], keep: int, at: str
) -> None:
    """Let the first `keep` corrections of a stack stand, as those above were undone in the other analysis."""
    base = stack[keep - 1] if keep else None
    to_class = base.to_class if base is not None else ""
    said = Statement("carry", class_of(connection, cell), to_class, stack[-1].reviewer, "", at)
    record(connection, slide_key, cell, said, in_force=None if base is None else base.id)


def match(old: dict[int, np.ndarray], new: dict[int, np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of cells that are the same in two analyses.

    Parameters
    ----------
    old, new : dict of int to numpy.ndarray
        Boxes y0, x0, y1, x1, half-open, by cell_id.
    """
    if not old or not new:
        return []
    new_ids = np.array(list(new))
    new_boxes = np.array([new[cell] for cell in new], float)
    tree = cKDTree((new_boxes[:, :2] + new_boxes[:, 2:]) / 2)
    best: dict[int, tuple[float, int]] = {}
    for cell_id, box in old.items():
        centre = (box[:2] + box[2:]) / 2
        reach = float(np.hypot(*(box[2:] - box[:2])))
        near = tree.query_ball_point(centre, reach)
        if not near:
            continue
        overlap = _iou(np.asarray(box, float), new_boxes[near])
        place = int(overlap.argmax())
        other = int(new_ids[near[place]])
        if overlap[place] >= SAME_CELL and overlap[place] > best.get(other, (0.0, 0))[0]:
            best[other] = (float(overlap[place]), cell_id)
    return sorted((cell_id, other) for other, (_, cell_id) in best.items())


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    top = np.maximum(box[:2], others[:, :2])
    bottom = np.minimum(box[2:], others[:, 2:])
    both = np.clip(bottom - top, 0, None).prod(axis=1)
    return both / (np.prod(box[2:] - box[:2]) + (others[:, 2:] - others[:, :2]).prod(axis=1) - both)


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
