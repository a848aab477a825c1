"""Which cells count, progress, signature; corrections laid over a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.review import log
from napari_leukocls.review.records import Correction, ReviewProgress, SignOff
from napari_leukocls.review.schema import cells, corrections, sign_offs, slides
from napari_leukocls.review.text import canonical, sha256
from napari_leukocls.scheme import Scheme

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of class that a person counts; red cells and platelets are not looked at one by one.
_COUNTED_KINDS = ("leukocyte", "nucleated", "other")
MOST = 100_000


def set_goal(connection: Connection, slide: Any, goal: int | None, actor: str, at: str) -> None:
    """Set how many leukocytes shall be counted; None for all."""
    if goal is not None and not 1 <= goal <= MOST:
        raise ArgumentError(
            f"a counting goal is 1 to {MOST} leukocytes, not {goal}; 100, 200 or 400 are usual."
        )
    connection.execute(slides.update().where(slides.c.id == slide.id).values(goal=goal))
    log.append(connection, actor, "goal", at, slide=slide.key, goal=goal)


def state(connection: Connection, analysis: int, scheme: Scheme) -> list[Any]:
    """Cells that a person may have to look at, with the class and the person that stand, in order of their ids.

    Red cells and platelets that nobody doubts are left out: a field has thousands, and they are as predicted.
    Rows have ``cell_id, predicted_class, probability, needs_review, corrected, reviewer``; the last two are
    None where the prediction stands.
    """
    plain = [entry.name for entry in scheme if entry.kind not in _COUNTED_KINDS]
    return list(
        connection.execute(
            sa.select(
                cells.c.cell_id,
                cells.c.predicted_class,
                cells.c.probability,
                cells.c.needs_review,
                corrections.c.to_class.label("corrected"),
                corrections.c.reviewer,
            )
            .outerjoin(corrections, corrections.c.id == cells.c.in_force)
            .where(
                cells.c.analysis == analysis,
                sa.or_(
                    cells.c.predicted_class.not_in(plain), cells.c.needs_review, cells.c.in_force.is_not(None)
                ),
            )
            .order_by(cells.c.cell_id)
        )
    )


def counted(rows: list[Any], scheme: Scheme, goal: int | None) -> list[Any]:
    """The rows that the count is made of: in the order of the outlines, until the goal is reached.

    A cell that is no leukocyte (erythroblast, artefact...) on the way is looked at too, and does not count
    towards the goal. The order does not depend on the classifier's doubts, so a count that stops at its goal
    is not made of the doubtful cells.
    """
    found = []
    leukocytes = 0
    for row in rows:
        name = row.corrected or row.predicted_class
        entry = scheme[name] if name in scheme else None
        open_cell = row.needs_review and row.corrected is None
        if entry is not None and entry.kind not in _COUNTED_KINDS and not open_cell:
            continue
        found.append(row)
        leukocytes += entry is not None and entry.counted_in_differential
        if goal is not None and leukocytes >= goal:
            break
    return found


def progress(rows: list[Any], scheme: Scheme, goal: int | None) -> ReviewProgress:
    """How far the review is; `rows` are those of `state`."""
    mine = counted(rows, scheme, goal)
    is_open = [row.needs_review and row.corrected is None for row in mine]
    names = [row.corrected or row.predicted_class for row in mine]
    leukocytes = sum(
        not waits and name in scheme and scheme[name].counted_in_differential
        for waits, name in zip(is_open, names, strict=True)
    )
    to_review = sum(is_open)
    return ReviewProgress(
        goal=goal,
        counted=len(mine),
        leukocytes=leukocytes,
        to_review=to_review,
        reviewed=sum(row.corrected is not None for row in mine),
        met=to_review == 0 and (goal is None or leukocytes >= goal),
    )


def offered(rows: list[Any], scheme: Scheme, goal: int | None) -> list[int]:
    """Cells to look at next, least certain first; none once the goal is met."""
    waiting = [row for row in counted(rows, scheme, goal) if row.needs_review and row.corrected is None]
    return [row.cell_id for row in sorted(waiting, key=lambda row: (row.probability or 0.0, row.cell_id))]


def sign_off(
    connection: Connection, slide: Any, analysis: int, scheme: Scheme, reviewer: str, at: str
) -> SignOff:
    """Sign the classes that stand.

    Raises
    ------
    ReviewError
        While counted cells need review.
    """
    rows = state(connection, analysis, scheme)
    mine = counted(rows, scheme, slide.goal)
    waiting = [row.cell_id for row in mine if row.needs_review and row.corrected is None]
    if waiting:
        some = ", ".join(map(str, waiting[:5])) + (", ..." if len(waiting) > 5 else "")
        raise ReviewError(
            f"{len(waiting)} counted cell{'s' if len(waiting) > 1 else ''} of {slide.slide_id} "
            f"need{'' if len(waiting) > 1 else 's'} review (cell {some}): give each a class, 'artefact' or "
            "'not_classed', then sign."
        )
    digest = state_digest(rows)
    connection.execute(
        sign_offs.insert().values(
            analysis=analysis, reviewer=reviewer, at=at, n_counted=len(mine), state=digest
        )
    )
    log.append(
        connection,
        reviewer,
        "sign_off",
        at,
        slide=slide.key,
        analysis=analysis,
        n_counted=len(mine),
        state=digest,
        goal=slide.goal,
    )
    return SignOff(slide.key, reviewer, at, len(mine))


def signed(connection: Connection, slide: Any, analysis: int, scheme: Scheme) -> SignOff | None:
    """The last signature, as long as nothing that was signed has changed since."""
    row = connection.execute(
        sa.select(sign_offs).where(sign_offs.c.analysis == analysis).order_by(sign_offs.c.id.desc()).limit(1)
    ).first()
    if row is None or row.state != state_digest(state(connection, analysis, scheme)):
        return None
    return SignOff(slide.key, row.reviewer, row.at, row.n_counted)


def state_digest(rows: list[Any]) -> str:
    """SHA-256 of the classes that stand."""
    return sha256(canonical([[row.cell_id, row.corrected or row.predicted_class] for row in rows]))


_BOX = ["bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]


def fill(
    cells: pd.DataFrame, found: Mapping[int, Correction], places: Mapping[int, np.ndarray]
) -> pd.DataFrame:
    """A copy of a table of cells with corrections filled in.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    found : mapping of int to Correction
        By ``cell_id``. Cells that it does not have go back to their prediction.
    places : mapping of int to numpy.ndarray
        Boxes that the corrections were made for.

    Raises
    ------
    ReviewError
        Where a corrected cell is not at its place in the table.
    """
    table = cells.copy()
    table.attrs = dict(cells.attrs)
    ids = table["cell_id"].to_numpy()
    rows = {int(cell_id): place for place, cell_id in enumerate(ids)}
    boxes = table[_BOX].to_numpy(float)
    for cell_id in found:
        at = rows.get(cell_id)
        if at is None or not np.array_equal(boxes[at], places[cell_id]):
            raise ReviewError(
                f"cell {cell_id} of the table is not the one that was corrected: its outlines are of another "
                "analysis; add that result to the review store first."
            )
    names = {column: table[column].to_numpy(dtype=object).copy() for column in _TEXTS}
    before = names["corrected_class"].astype(str) != ""
    names["class"][before] = names["predicted_class"][before]
    names["corrected_class"][before] = names["reviewer"][before] = ""
    needs_review = table["needs_review"].to_numpy(dtype=bool).copy()
    for cell_id, said in found.items():
        at = rows[cell_id]
        names["class"][at] = names["corrected_class"][at] = said.corrected_class
        names["reviewer"][at] = said.reviewer
        names["review_reason"][at] = ""
        needs_review[at] = False
    for column, values in names.items():
        table[column] = values
    table["needs_review"] = needs_review
    return table


_TEXTS = ("class", "corrected_class", "reviewer", "review_reason", "predicted_class")


def model_classes(cells: pd.DataFrame) -> list[str]:
    """Classes of the model that a table of cells is of."""
    return [str(name)[5:] for name in cells.columns if str(name).startswith("prob_")]
