"""Which cells count, how far a review is, signatures, and corrections filled into a table of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.review import log
from napari_leukocls.review.records import Correction, ReviewProgress, SignOff
from napari_leukocls.review.schema import BOX, cells, corrections, sign_offs, slides
from napari_leukocls.review.text import canonical, sha256
from napari_leukocls.scheme import Scheme

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of class that a person counts; red cells and platelets are not reviewed one by one.
_COUNTED_KINDS = ("leukocyte", "nucleated", "other")
#: The largest goal.
MAX_GOAL = 100_000
#: Columns of a table of cells that corrections change or use.
_TEXTS = ("class", "corrected_class", "reviewer", "review_reason", "predicted_class")


def set_goal(connection: Connection, slide: Any, goal: int | None, actor: str, at: str) -> None:
    """Set how many leukocytes are counted.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : Row
    goal : int or None
        None for all.
    actor : str
        Who sets it; may be "".
    at : str
        UTC, ISO 8601.

    Raises
    ------
    ArgumentError
        If it is not 1 to `MAX_GOAL`.
    """
    if goal is not None and not 1 <= goal <= MAX_GOAL:
        raise ArgumentError(
            f"a counting goal is 1 to {MAX_GOAL} leukocytes, not {goal}; 100, 200 or 400 are usual."
        )
    connection.execute(slides.update().where(slides.c.id == slide.id).values(goal=goal))
    log.append(connection, actor, "goal", at, slide=slide.key, goal=goal)


def state(connection: Connection, analysis: int, scheme: Scheme) -> list[Any]:
    """The cells that a person may have to review, with their current class and reviewer, in order of their ids.

    Red cells and platelets that are as predicted and need no review are left out: a field has thousands.

    Parameters
    ----------
    connection : Connection
    analysis : int
    scheme : Scheme

    Returns
    -------
    list of Row
        ``cell_id, predicted_class, probability, needs_review, corrected, reviewer``; the last two are None if
        the cell was not corrected.
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


def _is_open(row: Any) -> bool:
    """Whether a cell needs review and nobody has corrected it."""
    return bool(row.needs_review) and row.corrected is None


def counted(rows: list[Any], scheme: Scheme, goal: int | None) -> list[Any]:
    """The cells that are counted: in the order of their ids, until the goal is reached.

    Cells that are not leukocytes (erythroblasts, artefacts...) are among them, but do not add to the goal. The order
    does not depend on the certainty of the classifier, so a count up to a goal is not made of the doubtful
    cells.

    Parameters
    ----------
    rows : list of Row
        Of `state`.
    scheme : Scheme
    goal : int or None
        Number of leukocytes; None for all.

    Returns
    -------
    list of Row
    """
    found = []
    leukocytes = 0
    for row in rows:
        name = row.corrected or row.predicted_class
        entry = scheme[name] if name in scheme else None
        if entry is not None and entry.kind not in _COUNTED_KINDS and not _is_open(row):
            continue
        found.append(row)
        leukocytes += entry is not None and entry.counted_in_differential
        if goal is not None and leukocytes >= goal:
            break
    return found


def progress(rows: list[Any], scheme: Scheme, goal: int | None) -> ReviewProgress:
    """How far the review is.

    Parameters
    ----------
    rows : list of Row
        Of `state`.
    scheme : Scheme
    goal : int or None
        Number of leukocytes; None for all.

    Returns
    -------
    ReviewProgress
    """
    mine = counted(rows, scheme, goal)
    is_open = [_is_open(row) for row in mine]
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
    """The cells to review next, least certain first.

    Parameters
    ----------
    rows : list of Row
        Of `state`.
    scheme : Scheme
    goal : int or None
        Number of leukocytes; None for all.

    Returns
    -------
    list of int
        Ids; empty once the goal is reached.
    """
    waiting = [row for row in counted(rows, scheme, goal) if _is_open(row)]
    return [row.cell_id for row in sorted(waiting, key=lambda row: (row.probability or 0.0, row.cell_id))]


def sign_off(
    connection: Connection, slide: Any, analysis: int, scheme: Scheme, reviewer: str, at: str
) -> SignOff:
    """Sign the current classes of the counted cells.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : Row
    analysis : int
    scheme : Scheme
    reviewer : str
    at : str
        UTC, ISO 8601.

    Returns
    -------
    SignOff

    Raises
    ------
    ReviewError
        If a counted cell needs review.
    """
    rows = state(connection, analysis, scheme)
    mine = counted(rows, scheme, slide.goal)
    waiting = [row.cell_id for row in mine if _is_open(row)]
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
    """The last signature, if no signed class has changed since.

    Parameters
    ----------
    connection : Connection
    slide : Row
    analysis : int
    scheme : Scheme

    Returns
    -------
    SignOff or None
    """
    row = connection.execute(
        sa.select(sign_offs).where(sign_offs.c.analysis == analysis).order_by(sign_offs.c.id.desc()).limit(1)
    ).first()
    if row is None or row.state != state_digest(state(connection, analysis, scheme)):
        return None
    return SignOff(slide.key, row.reviewer, row.at, row.n_counted)


def state_digest(rows: list[Any]) -> str:
    """A hash of the current classes.

    Parameters
    ----------
    rows : list of Row
        Of `state`.

    Returns
    -------
    str
        SHA-256.
    """
    return sha256(canonical([[row.cell_id, row.corrected or row.predicted_class] for row in rows]))


def fill(
    cells: pd.DataFrame, found: Mapping[int, Correction], corrected_boxes: Mapping[int, np.ndarray]
) -> pd.DataFrame:
    """Fill corrections into a copy of a table of cells.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    found : mapping of int to Correction
        By ``cell_id``. Other cells get their predicted class.
    corrected_boxes : mapping of int to numpy.ndarray
        Boxes y0, x0, y1, x1, pixels, of the corrected cells by ``cell_id``.

    Returns
    -------
    pandas.DataFrame

    Raises
    ------
    ReviewError
        If the box of a corrected cell is another one in the table.
    """
    table = cells.copy()
    table.attrs = dict(cells.attrs)
    ids = table["cell_id"].to_numpy()
    rows = {int(cell_id): i for i, cell_id in enumerate(ids)}
    boxes = table[list(BOX)].to_numpy(float)
    for cell_id in found:
        i = rows.get(cell_id)
        if i is None or not np.array_equal(boxes[i], corrected_boxes[cell_id]):
            raise ReviewError(
                f"cell {cell_id} of the table is not the cell that was corrected: the table is from another "
                "analysis; add that result to the review store first."
            )
    names = {column: table[column].to_numpy(dtype=object).copy() for column in _TEXTS}
    before = names["corrected_class"].astype(str) != ""
    names["class"][before] = names["predicted_class"][before]
    names["corrected_class"][before] = names["reviewer"][before] = ""
    needs_review = table["needs_review"].to_numpy(dtype=bool).copy()
    for cell_id, correction in found.items():
        i = rows[cell_id]
        names["class"][i] = names["corrected_class"][i] = correction.corrected_class
        names["reviewer"][i] = correction.reviewer
        names["review_reason"][i] = ""
        needs_review[i] = False
    for column, values in names.items():
        table[column] = values
    table["needs_review"] = needs_review
    return table
