"""Blind second reads: another person classifies the same cells without seeing the first reader's classes."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import cases, counting, log
from napari_leukocls.review.records import Agreement
from napari_leukocls.review.schema import corrections, readings, sessions
from napari_leukocls.review.text import canonical
from napari_leukocls.scheme import Scheme

#: The first reader of cells that nobody has corrected.
MODEL = "the classifier"

#: The 97.5 % point of the normal distribution: the half width of a 95 % interval in standard errors.
NORMAL_975 = 1.959963984540054


def start(
    connection: Connection, slide: Any, analysis: int, reader: str, cell_ids: list[int], at: str
) -> tuple[int, list[int]]:
    """Begin a second read, or continue the reader's unfinished one.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    slide : Row
    analysis : int
    reader : str
    cell_ids : list of int
        The cells to read.
    at : str
        UTC, ISO 8601.

    Returns
    -------
    session : int
        Id of the second read.
    order : list of int
        The cells in the order in which they are shown.

    Raises
    ------
    ReviewError
        If the reader has corrected the slide, or there is no cell to read.
    """
    mine = connection.execute(
        sa.select(sa.func.count())
        .select_from(corrections)
        .where(corrections.c.analysis == analysis, corrections.c.reviewer == reader)
    ).scalar_one()
    if mine:
        raise ReviewError(
            f"{reader} has corrected this slide already: the second reader must be another person."
        )
    begun = connection.execute(
        sa.select(sessions).where(
            sessions.c.analysis == analysis, sessions.c.reader == reader, sessions.c.finished_at.is_(None)
        )
    ).first()
    if begun is not None:
        return int(begun.id), list(json.loads(begun.cell_ids))
    if not cell_ids:
        raise ReviewError(f"{slide.slide_id} has no cell to read.")
    # The order does not depend on the classes of the cells, and is the same for all readers.
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
    """The row of a second read that is not finished.

    Parameters
    ----------
    connection : Connection
    session : int

    Returns
    -------
    Row

    Raises
    ------
    ReviewError
        If it is finished.
    """
    row = connection.execute(sa.select(sessions).where(sessions.c.id == session)).one()
    if row.finished_at is not None:
        raise ReviewError("this second read is finished; begin a new one.")
    return row


def answers(connection: Connection, session: int) -> dict[int, str]:
    """The classes that a reader gave; of two for one cell the later one counts, and "" takes a class back.

    Parameters
    ----------
    connection : Connection
    session : int

    Returns
    -------
    dict of int to str
        By ``cell_id``.
    """
    rows = connection.execute(
        sa.select(readings.c.cell_id, readings.c["class"])
        .where(readings.c.session == session)
        .order_by(readings.c.id)
    )
    return {cell_id: name for cell_id, name in {row[0]: row[1] for row in rows}.items() if name}


def finished(connection: Connection, analysis: int, reader: str | None) -> Any:
    """The last finished second read.

    Parameters
    ----------
    connection : Connection
    analysis : int
    reader : str or None
        None for any reader.

    Returns
    -------
    Row

    Raises
    ------
    ReviewError
        If there is none.
    """
    query = sa.select(sessions).where(sessions.c.analysis == analysis, sessions.c.finished_at.is_not(None))
    if reader is not None:
        query = query.where(sessions.c.reader == reader)
    row = connection.execute(query.order_by(sessions.c.id.desc()).limit(1)).first()
    if row is None:
        raise ReviewError("no second read of this slide is finished; have another person read it first.")
    return row


def agreement(connection: Connection, read: list[tuple[str, int, Any]], scheme: Scheme) -> Agreement:
    """Compare the second reads of one or more fields with the classes that were in force when each was finished.

    What is settled afterwards, when both have looked at a cell together, changes no kappa. It does take the cell off
    the list of disagreements.

    Parameters
    ----------
    connection : Connection
    read : list of tuple
        Key of the field, its analysis, and the row of the second read; all by one reader.
    scheme : Scheme

    Returns
    -------
    Agreement
    """
    ids: list[int] = []
    slides: list[str] = []
    first: list[str] = []
    settled: list[str] = []
    second: list[str] = []
    people: set[str] = set()
    for slide, analysis, session in read:
        given = answers(connection, session.id)
        then = _changes_until(connection, analysis, session.finished_at)
        rows = {row.cell_id: row for row in counting.state(connection, analysis, scheme)}
        both = [cell_id for cell_id in given if cell_id in rows]
        ids += both
        slides += [slide] * len(both)
        first += [
            then[cell_id].to_class if cell_id in then else rows[cell_id].predicted_class for cell_id in both
        ]
        settled += [counting.class_now(rows[cell_id]) for cell_id in both]
        second += [given[cell_id] for cell_id in both]
        people |= {then[cell_id].reviewer for cell_id in both if cell_id in then}
    readers = ", ".join(sorted(people)) or MODEL, read[0][2].reader
    found = compare(ids, first, second, *readers, slides)
    return replace(found, disagreements=compare(ids, settled, second, *readers, slides).disagreements)


def _changes_until(connection: Connection, analysis: int, at: str | None) -> dict[int, Any]:
    """The last change of each cell up to a time, or until now; of an undone one, that which undid it."""
    query = sa.select(corrections.c.cell_id, corrections.c.to_class, corrections.c.reviewer).where(
        corrections.c.analysis == analysis, corrections.c.action != "contested"
    )
    if at is not None:
        query = query.where(corrections.c.at <= at)
    return {row.cell_id: row for row in connection.execute(query.order_by(corrections.c.id))}


def last_reader(connection: Connection, analyses: Collection[int]) -> str:
    """The person who finished a second read of some fields last.

    Parameters
    ----------
    connection : Connection
    analyses : collection of int

    Returns
    -------
    str
        "" if nobody has finished one.
    """
    query = sa.select(sessions.c.reader).where(
        sessions.c.analysis.in_(list(analyses)), sessions.c.finished_at.is_not(None)
    )
    return str(connection.execute(query.order_by(sessions.c.id.desc()).limit(1)).scalar() or "")


def case_agreement(connection: Connection, case: Any, reader: str | None, scheme: Scheme) -> Agreement:
    """Compare the last finished second read of a case with the first reader's classes of that time.

    Parameters
    ----------
    connection : Connection
    case : Row
    reader : str or None
        None for any reader.
    scheme : Scheme

    Returns
    -------
    Agreement

    Raises
    ------
    ReviewError
        If there is none, or a field of the case was not read.
    """
    rows = counting.counted(cases.state(connection, case, scheme), scheme, case.goal)
    fields = cases.keys_of(connection, case)
    reader = reader or last_reader(connection, fields) or None
    needed = [number for number in fields if any(row.analysis == number for row in rows)]
    read = [(fields[number], number, finished(connection, number, reader)) for number in needed]
    if not read:
        raise ReviewError(f"{case.name} has no cell to read.")
    return agreement(connection, read, scheme)


def kappa_of(table: np.ndarray) -> tuple[float, float]:
    """Cohen's kappa of a table of two readers, and its large-sample variance.

    Computed here, as statsmodels would take a third of a second of the window's first analysis to import.

    Parameters
    ----------
    table : numpy.ndarray, (C, C), int
        Cells that the first reader gave class i and the second class j. Not all are of one class.

    Returns
    -------
    kappa, variance : float

    References
    ----------
    .. [1] Fleiss, J. L., Cohen, J. & Everitt, B. S. (1969). Psychological Bulletin 72, 323-327, equation 13.
    """
    n = table.sum()
    share = table / n
    first, second = share.sum(axis=1), share.sum(axis=0)
    observed, expected = np.trace(share), first @ second
    kappa = (observed - expected) / (1 - expected)
    both = np.diag(share) * (1 - (first + second) * (1 - kappa)) ** 2
    apart = share * np.add.outer(second, first) ** 2 * (1 - kappa) ** 2
    total = both.sum() + apart.sum() - np.trace(apart) - (kappa - expected * (1 - kappa)) ** 2
    return float(kappa), float(total / (n * (1 - expected) ** 2))


def compare(
    ids: list[int],
    first: list[str],
    second: list[str],
    one: str,
    other: str,
    slides: list[str] | None = None,
) -> Agreement:
    """Cohen's kappa of two readers [1]_, with its 95 % interval [2]_.

    Parameters
    ----------
    ids : list of int
    first, second : list of str
        The classes that each reader gave, in the order of `ids`.
    one, other : str
        Names of the readers.
    slides : list of str, optional
        Keys of the images of the cells.

    Returns
    -------
    Agreement

    References
    ----------
    .. [1] Cohen, J. (1960). Educational and Psychological Measurement 20, 37-46.
    .. [2] Fleiss, J. L., Cohen, J. & Everitt, B. S. (1969). Psychological Bulletin 72, 323-327.
    """
    names = sorted({*first, *second})
    rows = {name: i for i, name in enumerate(names)}
    table = np.zeros((len(names), len(names)), int)
    for mine, theirs in zip(first, second, strict=True):
        table[rows[mine], rows[theirs]] += 1
    kappa = low = high = float("nan")
    if len(names) > 1:
        kappa, variance = kappa_of(table)
        # If a reader uses only one class, the variance is 0, or slightly below by rounding.
        if variance > 1e-12:
            reach = NORMAL_975 * float(np.sqrt(variance))
            low, high = max(-1.0, kappa - reach), min(1.0, kappa + reach)
    every = zip(ids, first, second, slides or [""] * len(ids), strict=True)
    unlike = [row for row in every if row[1] != row[2]]
    return Agreement(
        first=one,
        second=other,
        n=len(ids),
        observed=float(np.trace(table) / len(ids)) if ids else float("nan"),
        kappa=kappa,
        low=low,
        high=high,
        table=pd.DataFrame(table, index=names, columns=names),
        disagreements=pd.DataFrame(unlike, columns=["cell_id", "first", "second", "slide"]),
    )


def answer(
    connection: Connection, session: int, slide: str, reader: str, cell_id: int, class_name: str, at: str
) -> None:
    """Record the class that a reader gave to a cell.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    session : int
    slide : str
        Key.
    reader : str
    cell_id : int
    class_name : str
    at : str
        UTC, ISO 8601.

    Raises
    ------
    ReviewError
        If the second read is finished, or the cell does not belong to it.
    """
    row = open_session(connection, session)
    if cell_id not in json.loads(row.cell_ids):
        raise ReviewError(f"cell {cell_id} does not belong to this second read.")
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
    connection: Connection, read: list[tuple[str, int, Any]], reader: str, at: str, scheme: Scheme
) -> Agreement:
    """Finish a second read of one or more fields, and compare it with the current classes.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    read : list of tuple
        Key of the field, its analysis, and the row of the second read, as `open_session` gives it.
    reader : str
    at : str
        UTC, ISO 8601.
    scheme : Scheme

    Returns
    -------
    Agreement
    """
    found = agreement(connection, read, scheme)
    for slide, analysis, session in read:
        connection.execute(sessions.update().where(sessions.c.id == session.id).values(finished_at=at))
        log.append(
            connection,
            reader,
            "second_read_finished",
            at,
            slide=slide,
            analysis=analysis,
            session=session.id,
            n=found.n,
            n_unlike=len(found.disagreements),
        )
    return found
