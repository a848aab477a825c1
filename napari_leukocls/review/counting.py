"""Which cells count, how far a review is, and corrections filled into a table of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.review.records import Correction, ReviewProgress
from napari_leukocls.review.schema import BOX, cells, corrections
from napari_leukocls.review.text import canonical, sha256
from napari_leukocls.scheme import Scheme

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of class that a person counts; red cells and platelets are not reviewed one by one.
_COUNTED_KINDS = ("leukocyte", "nucleated", "other")
#: Columns of a table of cells that corrections change or use.
_TEXTS = ("class", "corrected_class", "reviewer", "review_reason", "predicted_class")


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
        ``analysis, cell_id, predicted_class, probability, needs_review, corrected, reviewer``; the last two are
        None if the cell was not corrected.
    """
    plain = [entry.name for entry in scheme if entry.kind not in _COUNTED_KINDS]
    return list(
        connection.execute(
            sa.select(
                cells.c.analysis,
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


def is_open(row: Any) -> bool:
    """Whether a cell needs review and nobody has corrected it.

    Parameters
    ----------
    row : Row
        Of `state`.

    Returns
    -------
    bool
    """
    return bool(row.needs_review) and row.corrected is None


def class_now(row: Any) -> str:
    """The class that is in force for a cell: the corrected one, or the predicted one.

    Parameters
    ----------
    row : Row
        Of `state`.

    Returns
    -------
    str
    """
    return str(row.corrected or row.predicted_class)


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
    #: By class: whether its cells are passed over, and whether they add to the goal.
    known: dict[str, tuple[bool, bool]] = {}
    for row in rows:
        name = class_now(row)
        if name not in known:
            entry = scheme[name] if name in scheme else None
            passed = entry is not None and entry.kind not in _COUNTED_KINDS
            known[name] = passed, entry is not None and entry.counted_in_differential
        passed, counts = known[name]
        if passed and not is_open(row):
            continue
        found.append(row)
        leukocytes += counts
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
    return progress_of(counted(rows, scheme, goal), scheme, goal)


def progress_of(mine: list[Any], scheme: Scheme, goal: int | None) -> ReviewProgress:
    """How far the review of the counted cells is.

    Parameters
    ----------
    mine : list of Row
        Of `counted`.
    scheme : Scheme
    goal : int or None
        Number of leukocytes; None for all.

    Returns
    -------
    ReviewProgress
    """
    settled = Counter(class_now(row) for row in mine if not is_open(row))
    leukocytes = sum(
        n for name, n in settled.items() if name in scheme and scheme[name].counted_in_differential
    )
    to_review = len(mine) - settled.total()
    return ReviewProgress(
        goal=goal,
        counted=len(mine),
        leukocytes=leukocytes,
        to_review=to_review,
        reviewed=sum(row.corrected is not None for row in mine),
        met=to_review == 0 and (goal is None or leukocytes >= goal),
    )


def offered(rows: list[Any], scheme: Scheme, goal: int | None) -> list[Any]:
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
    list of Row
        Empty once the goal is reached.
    """
    return by_doubt(counted(rows, scheme, goal))


def by_doubt(mine: list[Any]) -> list[Any]:
    """The cells that wait for a person, least certain first.

    Parameters
    ----------
    mine : list of Row
        Of `counted`.

    Returns
    -------
    list of Row
    """
    waiting = [row for row in mine if is_open(row)]
    return sorted(waiting, key=lambda row: (row.probability or 0.0, row.analysis, row.cell_id))


def classes_digest(rows: list[Any]) -> str:
    """A hash of the current classes of one image, as signatures had it before there were cases.

    Parameters
    ----------
    rows : list of Row
        Of `state`.

    Returns
    -------
    str
        SHA-256.
    """
    return sha256(canonical([[row.cell_id, class_now(row)] for row in rows]))


def in_count(cells: pd.DataFrame, counted_ids: Collection[int], scheme: Scheme) -> np.ndarray:
    """Which cells of a table are in a count up to a goal: those that are counted, and all red cells and platelets.

    Parameters
    ----------
    cells : pandas.DataFrame
        Columns as in ``cells.csv``.
    counted_ids : collection of int
        The counted cells.
    scheme : Scheme

    Returns
    -------
    numpy.ndarray, (N,), bool
    """
    plain = [entry.name for entry in scheme if entry.kind not in _COUNTED_KINDS]
    array: np.ndarray = (cells["class"].isin(plain) | cells["cell_id"].isin(list(counted_ids))).to_numpy()
    return array


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
