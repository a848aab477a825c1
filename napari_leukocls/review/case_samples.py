"""Values of the sample of a case that do not come from its images: counts of the analyser, patient number, age, sex."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.measurement.samples import SampleValues
from napari_leukocls.review import log
from napari_leukocls.review.schema import case_samples
from napari_leukocls.review.text import canonical, storable


def sample_of_case(connection: Connection, case: Any) -> SampleValues | None:
    """The values of a case.

    Parameters
    ----------
    connection : Connection
    case : Row

    Returns
    -------
    SampleValues or None
        None if nobody has given any.
    """
    query = sa.select(case_samples.c.content).where(case_samples.c.case_id == case.id)
    content = connection.execute(query).scalar()
    if content is None:
        return None
    held, known = json.loads(content), {one.name for one in fields(SampleValues)}
    return SampleValues(**{name: value for name, value in held.items() if name in known})


def set_sample(connection: Connection, case: Any, sample: SampleValues | None, actor: str, at: str) -> bool:
    """Set the values of a case.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    case : Row
    sample : SampleValues or None
        None takes them away.
    actor : str
        May be "".
    at : str
        UTC, ISO 8601.

    Returns
    -------
    bool
        False if they are those that it has.
    """
    if sample == sample_of_case(connection, case):
        return False
    connection.execute(case_samples.delete().where(case_samples.c.case_id == case.id))
    if sample is not None:
        content = storable(canonical(asdict(sample)))
        connection.execute(
            case_samples.insert().values(case_id=case.id, patient=storable(sample.patient), content=content)
        )
    log.append(
        connection, actor, "sample", at, case=case.key, sample=None if sample is None else asdict(sample)
    )
    return True
