"""Cases in the store: the fields that make one count, their order, name, identifier and goal."""

from __future__ import annotations

import secrets
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ArgumentError, ReviewError
from napari_leukocls.review import counting, log
from napari_leukocls.review.records import CaseRecord
from napari_leukocls.review.schema import case_fields, cases, slides
from napari_leukocls.review.text import storable
from napari_leukocls.scheme import Scheme

#: The largest goal.
MAX_GOAL = 100_000


def insert_case(connection: Connection, name: str, identifier: str, at: str, key: str = "") -> Any:
    """Add a case without fields.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    name : str
        Of the slide.
    identifier : str
        Of the sample; may be "".
    at : str
        UTC, ISO 8601.
    key : str, optional
        By default a random one.

    Returns
    -------
    Row
    """
    values = {
        "key": key or secrets.token_hex(16),
        "name": storable(name),
        "identifier": storable(identifier),
        "added_at": at,
    }
    connection.execute(cases.insert().values(**values))
    log.append(connection, "", "case", at, case=values["key"], name=values["name"], identifier=identifier)
    return case_row(connection, values["key"])


def case_row(connection: Connection, key: str) -> Any:
    """The row of a case.

    Parameters
    ----------
    connection : Connection
    key : str

    Returns
    -------
    Row

    Raises
    ------
    ReviewError
        If the store does not have the case.
    """
    row = connection.execute(sa.select(cases).where(cases.c.key == key)).first()
    if row is None:
        raise ReviewError(f"the review store has no case {key[:12]!r}; open its slide again.")
    return row


def case_of(connection: Connection, slide: Any) -> Any:
    """The row of the case that a slide is a field of.

    Parameters
    ----------
    connection : Connection
    slide : Row

    Returns
    -------
    Row or None
        None if the slide is in no case yet.
    """
    return connection.execute(
        sa.select(cases)
        .join(case_fields, case_fields.c.case_id == cases.c.id)
        .where(case_fields.c.slide == slide.id)
    ).first()


def add_field(connection: Connection, case: Any, slide: Any, actor: str, at: str) -> bool:
    """Make a slide the last field of a case; it leaves the case that it was in.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    case : Row
    slide : Row
    actor : str
        May be "".
    at : str
        UTC, ISO 8601.

    Returns
    -------
    bool
        False if it is a field of this case already.
    """
    before = case_of(connection, slide)
    if before is not None and before.id == case.id:
        return False
    last = connection.execute(
        sa.select(sa.func.max(case_fields.c.position)).where(case_fields.c.case_id == case.id)
    ).scalar()
    position = 0 if last is None else last + 1
    if before is None:
        connection.execute(case_fields.insert().values(slide=slide.id, case_id=case.id, position=position))
    else:
        connection.execute(
            case_fields.update()
            .where(case_fields.c.slide == slide.id)
            .values(case_id=case.id, position=position)
        )
    details = {"case": case.key, "slide": slide.key, "position": position}
    log.append(connection, actor, "field", at, **details, before=before.key if before is not None else None)
    return True


def set_goal(connection: Connection, case: Any, goal: int | None, actor: str, at: str) -> None:
    """Set how many leukocytes of a case are counted.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    case : Row
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
    connection.execute(cases.update().where(cases.c.id == case.id).values(goal=goal))
    log.append(connection, actor, "goal", at, case=case.key, goal=goal)


def rename(connection: Connection, case: Any, name: str, identifier: str, actor: str, at: str) -> None:
    """Change the name and the identifier of a case.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    case : Row
    name, identifier : str
    actor : str
        May be "".
    at : str
        UTC, ISO 8601.

    Raises
    ------
    ArgumentError
        If the name is empty.
    """
    if not name.strip():
        raise ArgumentError("a slide needs a name: type one.")
    values = {"name": storable(name.strip()), "identifier": storable(identifier.strip())}
    connection.execute(cases.update().where(cases.c.id == case.id).values(**values))
    log.append(connection, actor, "case", at, case=case.key, **values)


def fields_of(connection: Connection, case: Any) -> list[Any]:
    """The analysed fields of a case, in the order in which they are counted.

    Parameters
    ----------
    connection : Connection
    case : Row

    Returns
    -------
    list of Row
        Of the table ``slides``.
    """
    query = (
        sa.select(slides)
        .join(case_fields, case_fields.c.slide == slides.c.id)
        .where(case_fields.c.case_id == case.id, slides.c.current_analysis.is_not(None))
        .order_by(case_fields.c.position)
    )
    return list(connection.execute(query))


def state(connection: Connection, case: Any, scheme: Scheme, fields: list[Any] | None = None) -> list[Any]:
    """The cells of a case that a person may have to review: field after field, in order of their ids.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme
    fields : list of Row, optional
        Of `fields_of`, where they are known.

    Returns
    -------
    list of Row
        As `counting.state` gives them.
    """
    found = fields_of(connection, case) if fields is None else fields
    return [row for slide in found for row in counting.state(connection, slide.current_analysis, scheme)]


def keys_of(connection: Connection, case: Any) -> dict[int, str]:
    """The keys of the fields of a case by their current analysis.

    Parameters
    ----------
    connection : Connection
    case : Row

    Returns
    -------
    dict of int to str
    """
    return {slide.current_analysis: slide.key for slide in fields_of(connection, case)}


def record(connection: Connection, case: Any) -> CaseRecord:
    """The values of a case.

    Parameters
    ----------
    connection : Connection
    case : Row

    Returns
    -------
    CaseRecord
    """
    return record_of(case, fields_of(connection, case))


def record_of(case: Any, fields: list[Any]) -> CaseRecord:
    """The values of a case whose fields are known.

    Parameters
    ----------
    case : Row
    fields : list of Row
        Of `fields_of`.

    Returns
    -------
    CaseRecord
    """
    keys = tuple(slide.key for slide in fields)
    return CaseRecord(case.key, case.name, case.identifier, case.goal, case.added_at, keys)


def case_records(connection: Connection) -> list[CaseRecord]:
    """All cases that have a field, the newest last.

    Parameters
    ----------
    connection : Connection

    Returns
    -------
    list of CaseRecord
    """
    rows = connection.execute(sa.select(cases).order_by(cases.c.added_at, cases.c.id)).all()
    return [found for row in rows if (found := record(connection, row)).fields]
