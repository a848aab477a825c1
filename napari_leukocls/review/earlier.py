"""The last signed count of the same patient, for the delta check."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.measurement.delta import EarlierCount
from napari_leukocls.review import cases, counting, signing
from napari_leukocls.review.case_samples import sample_of_case
from napari_leukocls.review.schema import case_fields, case_samples, slides
from napari_leukocls.review.schema import cases as table
from napari_leukocls.scheme import Scheme


def patient_of(connection: Connection, case: Any) -> str:
    """The number of the patient of a case, never a name.

    Parameters
    ----------
    connection : Connection
    case : Row

    Returns
    -------
    str
        Of its sample, or else of its fields; "" if neither has one.
    """
    sample = sample_of_case(connection, case)
    if sample is not None and sample.patient:
        return sample.patient
    return next((slide.patient for slide in cases.fields_of(connection, case) if slide.patient), "")


def earlier_count(connection: Connection, case: Any, scheme: Scheme) -> EarlierCount | None:
    """Find the last signed count of the same patient before this one.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme

    Returns
    -------
    EarlierCount or None
        None if the patient has no number, or no other count is signed.
    """
    patient = patient_of(connection, case)
    if not patient:
        return None
    mine = signing.signed(connection, case, scheme)
    found = []
    for other in _cases_of(connection, patient):
        # A field's number serves only where the sample has none.
        if other.id == case.id or patient_of(connection, other) != patient:
            continue
        signature = signing.signed(connection, other, scheme)
        if signature is not None and (mine is None or signature.at < mine.at):
            found.append((signature.at, other.id, other))
    if not found:
        return None
    at, _, last = max(found, key=lambda one: one[:2])
    return EarlierCount(_counts(connection, last, scheme), at[:10], last.identifier or last.name)


def _cases_of(connection: Connection, patient: str) -> list[Any]:
    """Cases whose sample or field has the number of a patient."""
    by_sample = sa.select(case_samples.c.case_id).where(case_samples.c.patient == patient)
    by_field = (
        sa.select(case_fields.c.case_id)
        .join(slides, slides.c.id == case_fields.c.slide)
        .where(slides.c.patient == patient)
    )
    query = sa.select(table).where(sa.or_(table.c.id.in_(by_sample), table.c.id.in_(by_field)))
    return list(connection.execute(query))


def _counts(connection: Connection, case: Any, scheme: Scheme) -> pd.DataFrame:
    """Leukocytes of a case by class, up to its goal."""
    rows = counting.counted(cases.state(connection, case, scheme), scheme, case.goal)
    names = Counter(counting.class_now(row) for row in rows if not counting.is_open(row))
    inside = {name: n for name, n in names.items() if name in scheme and scheme[name].counted_in_differential}
    return pd.DataFrame(
        {"class": list(inside), "count": list(inside.values()), "in_differential": [True] * len(inside)}
    )
