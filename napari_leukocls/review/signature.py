"""The state of a count: reviewed or not, signed by whom, read a second time, and which cells it leaves out."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import counting, second_read
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Signature


def signature_of(connection: Connection, slide: Any, analysis: int, scheme: Scheme) -> Signature:
    """Describe the count of a slide for reports, tables and windows.

    Parameters
    ----------
    connection : Connection
    slide : Row
    analysis : int
    scheme : Scheme

    Returns
    -------
    Signature
    """
    rows = counting.state(connection, analysis, scheme)
    waiting = Counter(row.predicted_class for row in rows if row.needs_review and row.corrected is None)
    signed = counting.signed(connection, slide, analysis, scheme)
    reviewed = any(row.corrected is not None for row in rows)
    reader, kappa = _second_reader(connection, analysis, scheme)
    return Signature(
        "signed" if signed else "provisional" if reviewed else "unreviewed",
        signed_by=signed.reviewer if signed else "",
        signed_at=signed.at if signed else "",
        goal=slide.goal,
        second_reader=reader,
        kappa=kappa,
        left_out=dict(waiting.most_common()),
    )


def _second_reader(connection: Connection, analysis: int, scheme: Scheme) -> tuple[str, float | None]:
    """The last person who read the cells blind, and Cohen's kappa with the classes in force."""
    try:
        session = second_read.finished(connection, analysis, None)
    except ReviewError:
        return "", None
    kappa = second_read.agreement(connection, analysis, session, scheme).kappa
    return str(session.reader), kappa if math.isfinite(kappa) else None
