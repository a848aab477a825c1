"""Blind second reads: another person classes the same cells without seeing what the first one said."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from statsmodels.stats.inter_rater import cohens_kappa

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import counting, log
from napari_leukocls.review.records import Agreement
from napari_leukocls.review.schema import corrections, readings, sessions
from napari_leukocls.review.text import canonical
from napari_leukocls.scheme import Scheme

MODEL = "the classifier"


def start(
    connection: Connection, slide: Any, analysis: int, reader: str, cell_ids: list[int], at: str
) -> tuple[int, list[int]]:
    """Begin a reading, or go on with the reader's unfinished one.

    Raises
    ------
    ReviewError
        Where the reader is a first reader of the slide, or there is nothing to read.
    """
    mine = connection.execute(
        sa.select(sa.func.count())
        .select_from(corrections)
        .where(corrections.c.analysis == analysis, corrections.c.reviewer == reader)
    ).scalar_one()
    if mine:
        raise ReviewError(f"{reader} has corrected this slide already: a second reader is another person.")
    begun = connection.execute(
        sa.select(sessions).where(
            sessions.c.analysis == analysis, sessions.c.reader == reader, sessions.c.finished_at.is_(None)
        )
    ).first()
    if begun is not None:
        return int(begun.id), list(json.loads(begun.cell_ids))
    if not cell_ids:
        raise ReviewError(f"{slide.slide_id} has no cell to read.")
    # An order that has nothing to do with what the cells are, and the same for everybody.
    seed = int(slide.key[:8], 16)
    order = [int(cell) for cell in np.random.default_rng(seed).permutation(sorted(cell_ids))]
    inserted = connection.execute(
        sessions.insert().values(analysis=analysis, reader=reader, cell_ids=canonical(order), started_at=at)
    )
    session = int(inserted.inserted_primary_key[0])  # type: ignore[index]
    log.append(
        connection,
        reader,
        "second_read",
        at,
        slide=slide.key,
        analysis=analysis,
        session=session,
        n=len(order),
    )
    return session, order


def open_session(connection: Connection, session: int) -> Any:
    """Row of a reading that is not finished."""
    row = connection.execute(sa.select(sessions).where(sessions.c.id == session)).one()
    if row.finished_at is not None:
        raise ReviewError("this second read is finished; begin another to change it.")
    return row


def answers(connection: Connection, session: int) -> dict[int, str]:
    """What was said in a reading, by cell; the last answer counts."""
    rows = connection.execute(
        sa.select(readings.c.cell_id, readings.c["class"])
        .where(readings.c.session == session)
        .order_by(readings.c.id)
    )
    return {row[0]: row[1] for row in rows}


def finished(connection: Connection, analysis: int, reader: str | None) -> Any:
    """The last finished reading, of one reader or of any.

    Raises
    ------
    ReviewError
    """
    query = sa.select(sessions).where(sessions.c.analysis == analysis, sessions.c.finished_at.is_not(None))
    if reader is not None:
        query = query.where(sessions.c.reader == reader)
    row = connection.execute(query.order_by(sessions.c.id.desc()).limit(1)).first()
    if row is None:
        raise ReviewError("no second read of this slide is finished; have another person read it first.")
    return row


def agreement(connection: Connection, analysis: int, session: Any, scheme: Scheme) -> Agreement:
    """Compare a reading with the classes that stand."""
    second = answers(connection, session.id)
    rows = {row.cell_id: row for row in counting.state(connection, analysis, scheme)}
    ids = [cell_id for cell_id in second if cell_id in rows]
    first = [rows[cell_id].corrected or rows[cell_id].predicted_class for cell_id in ids]
    people = sorted({rows[cell_id].reviewer for cell_id in ids if rows[cell_id].reviewer})
    return compare(
        ids, first, [second[cell_id] for cell_id in ids], ", ".join(people) or MODEL, session.reader
    )


def compare(ids: list[int], first: list[str], second: list[str], one: str, other: str) -> Agreement:
    """Cohen's kappa of two readers with its 95 % interval.

    Parameters
    ----------
    ids : list of int
    first, second : list of str
        What each said, in the order of `ids`.
    one, other : str
        Who they are.

    References
    ----------
    .. [1] Cohen, J. (1960). Educational and Psychological Measurement 20, 37-46.
    .. [2] Fleiss, J. L., Cohen, J. & Everitt, B. S. (1969). Psychological Bulletin 72, 323-327.
    """
    names = sorted({*first, *second})
    place = {name: index for index, name in enumerate(names)}
    table = np.zeros((len(names), len(names)), int)
    for mine, theirs in zip(first, second, strict=True):
        table[place[mine], place[theirs]] += 1
    kappa = low = high = float("nan")
    if len(names) > 1:
        # Where a reader uses one class alone the variance is nil, or a rounding error below it.
        with np.errstate(invalid="ignore"):
            found = cohens_kappa(table)
        kappa = float(found.kappa)
        if found.var_kappa > 1e-12:
            low, high = (float(np.clip(limit, -1, 1)) for limit in (found.kappa_low, found.kappa_upp))
    unlike = [
        (cell_id, mine, theirs)
        for cell_id, mine, theirs in zip(ids, first, second, strict=True)
        if mine != theirs
    ]
    return Agreement(
        first=one,
        second=other,
        n=len(ids),
        observed=float(np.trace(table) / len(ids)) if ids else float("nan"),
        kappa=kappa,
        low=low,
        high=high,
        table=pd.DataFrame(table, index=names, columns=names),
        disagreements=pd.DataFrame(unlike, columns=["cell_id", "first", "second"]),
    )


def answer(
    connection: Connection, session: int, slide: str, reader: str, cell_id: int, class_name: str, at: str
) -> None:
    """Write what a reader says of a cell."""
    row = open_session(connection, session)
    if cell_id not in json.loads(row.cell_ids):
        raise ReviewError(f"cell {cell_id} is not among those of this second read.")
    connection.execute(
        readings.insert().values(**{"session": session, "cell_id": cell_id, "class": class_name, "at": at})
    )
    log.append(
        connection,
        reader,
        "read",
        at,
        slide=slide,
        analysis=row.analysis,
        session=session,
        cell_id=cell_id,
        to_class=class_name,
    )


def finish(
    connection: Connection, session: int, slide: str, reader: str, at: str, scheme: Scheme
) -> Agreement:
    """End a reading and compare it."""
    row = open_session(connection, session)
    connection.execute(sessions.update().where(sessions.c.id == session).values(finished_at=at))
    found = agreement(connection, row.analysis, row, scheme)
    log.append(
        connection,
        reader,
        "second_read_finished",
        at,
        slide=slide,
        analysis=row.analysis,
        session=session,
        n=found.n,
        n_unlike=len(found.disagreements),
    )
    return found
