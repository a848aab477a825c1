"""Signatures: what one covers, when it is valid, and what has lifted it."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from napari_leukocls.errors import ReviewError
from napari_leukocls.review import cases, counting, log, second_read
from napari_leukocls.review.case_samples import sample_of_case
from napari_leukocls.review.records import Lift, SignOff
from napari_leukocls.review.schema import analyses, lifts, sign_offs
from napari_leukocls.review.text import canonical, sha256
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Signature

#: What a signature covers, in the words of a message.
PARTS = {
    "fields": "the fields of the slide",
    "name": "the name of the slide",
    "identifier": "the identifier",
    "goal": "the goal",
    "models": "the models",
    "outlines": "the outlines",
    "settings": "the settings of the analysis",
    "classes": "the class of a cell",
    "review": "which cells are reviewed",
    "sample": "the counts of the analyser, or the patient",
}
#: Classes of cells that are in no differential: they are told before a count is signed.
_NO_CELLS = ("artefact", "not_classed")


def covered(connection: Connection, case: Any, scheme: Scheme) -> dict[str, Any]:
    """What a signature of a case covers, each part as a value or as a hash.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme

    Returns
    -------
    dict
        By the names of `PARTS`.
    """
    fields = cases.fields_of(connection, case)
    numbers = [slide.current_analysis for slide in fields]
    found = {row.id: row for row in connection.execute(sa.select(analyses).where(analyses.c.id.in_(numbers)))}
    made = [found[number] for number in numbers]
    rows = cases.state(connection, case, scheme)
    places = {number: i for i, number in enumerate(numbers)}
    sample = sample_of_case(connection, case)
    return {
        "fields": sha256(canonical([slide.key for slide in fields])),
        "name": case.name,
        "identifier": case.identifier,
        "goal": case.goal,
        "models": sha256(
            canonical(
                [[one.segmenter, one.segmenter_sha256, one.classifier, one.classifier_sha256] for one in made]
            )
        ),
        "outlines": sha256(canonical([one.labels_sha256 or one.digest for one in made])),
        "settings": sha256(canonical([one.digest for one in made])),
        "classes": sha256(
            canonical([[places[row.analysis], row.cell_id, counting.class_now(row)] for row in rows])
        ),
        "review": sha256(
            canonical(
                [[places[row.analysis], row.cell_id, counting.is_open(row), row.reviewer] for row in rows]
            )
        ),
        "sample": None if sample is None else sha256(canonical(asdict(sample))),
    }


def doubts(connection: Connection, case: Any, scheme: Scheme) -> list[str]:
    """What a person should know before signing: a count short of its goal, artefacts among the cells.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme

    Returns
    -------
    list of str
        Sentences; empty if there is nothing to ask.
    """
    rows = cases.state(connection, case, scheme)
    now = counting.progress(rows, scheme, case.goal)
    found = []
    if case.goal is not None and now.leukocytes < case.goal:
        found.append(f"{now.leukocytes} of {case.goal} leukocytes are counted.")
    mine = counting.counted(rows, scheme, case.goal)
    others = Counter(name for row in mine if (name := counting.class_now(row)) in _NO_CELLS)
    if others:
        n = sum(others.values())
        words = ", ".join(
            f"{count} {name.replace('_', ' ')}{'s' if count > 1 and name == 'artefact' else ''}"
            for name, count in others.items()
        )
        found.append(
            f"{n} of the {len(mine)} cells {'is' if n == 1 else 'are'} no leukocyte and in no percentage "
            f"({words})."
        )
    return found


def sign_off(connection: Connection, case: Any, scheme: Scheme, reviewer: str, at: str) -> SignOff:
    """Sign the count of a case as it is now.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`.
    case : Row
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
        If a counted cell needs review, or the case has no field.
    """
    rows = cases.state(connection, case, scheme)
    mine = counting.counted(rows, scheme, case.goal)
    waiting = [row.cell_id for row in mine if counting.is_open(row)]
    if waiting:
        some = ", ".join(map(str, waiting[:5])) + (", ..." if len(waiting) > 5 else "")
        raise ReviewError(
            f"{len(waiting)} counted cell{'s' if len(waiting) > 1 else ''} of {case.name} "
            f"need{'' if len(waiting) > 1 else 's'} review (cell {some}): give each a class, 'artefact' or "
            "'not_classed', then sign."
        )
    fields = cases.fields_of(connection, case)
    if not fields:
        raise ReviewError(f"{case.name} has no analysed field: analyse it first.")
    covers = covered(connection, case, scheme)
    values = {
        "analysis": fields[0].current_analysis,
        "n_counted": len(mine),
        "state": sha256(canonical(covers)),
        "case_id": case.id,
        "covers": canonical(covers),
    }
    connection.execute(sign_offs.insert().values(reviewer=reviewer, at=at, **values))
    leukocytes = counting.progress(rows, scheme, case.goal).leukocytes
    log.append(
        connection, reviewer, "sign_off", at, **values, case=case.key, goal=case.goal, leukocytes=leukocytes
    )
    return SignOff(case.key, reviewer, at, len(mine))


def _last(connection: Connection, case: Any) -> Any:
    """The last signature of a case, lifted or not; None if there is none."""
    numbers = [slide.current_analysis for slide in cases.fields_of(connection, case)]
    # Before cases there was a signature for each image.
    older = sa.and_(sign_offs.c.case_id.is_(None), sign_offs.c.analysis.in_(numbers))
    query = sa.select(sign_offs).where(sa.or_(sign_offs.c.case_id == case.id, older))
    return connection.execute(query.order_by(sign_offs.c.id.desc()).limit(1)).first()


def _lift_of(connection: Connection, signature: Any) -> Any:
    query = sa.select(lifts).where(lifts.c.sign_off == signature.id).order_by(lifts.c.id).limit(1)
    return connection.execute(query).first()


def _changed(connection: Connection, case: Any, scheme: Scheme, signature: Any) -> str:
    """The parts that differ from what was signed, in words; "" if none does."""
    if signature.covers is None:
        rows = cases.state(connection, case, scheme)
        same = signature.state == counting.classes_digest(rows)
        return "" if same else PARTS["classes"]
    before, now = json.loads(signature.covers), covered(connection, case, scheme)
    changed = [words for name, words in PARTS.items() if before.get(name) != now[name]]
    # The settings have a hash of the whole analysis, which models and outlines change too.
    if len(changed) > 1 and PARTS["settings"] in changed:
        changed.remove(PARTS["settings"])
    return ", ".join(changed)


def signed(connection: Connection, case: Any, scheme: Scheme) -> SignOff | None:
    """The last signature of a case, if nothing that it covers has changed since.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme

    Returns
    -------
    SignOff or None
    """
    row = _last(connection, case)
    if row is None or _lift_of(connection, row) is not None or _changed(connection, case, scheme, row):
        return None
    return SignOff(case.key, row.reviewer, row.at, row.n_counted)


def lifted(connection: Connection, case: Any, scheme: Scheme) -> Lift | None:
    """Why the last signature of a case is not valid any more.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme

    Returns
    -------
    Lift or None
        None if it is valid, or there is none.
    """
    row = _last(connection, case)
    if row is None:
        return None
    lift = _lift_of(connection, row)
    if lift is not None:
        return Lift(row.reviewer, row.at, lift.actor, lift.at, lift.what)
    changed = _changed(connection, case, scheme, row)
    return Lift(row.reviewer, row.at, "", "", f"{changed} changed") if changed else None


def lift(connection: Connection, case: Any, scheme: Scheme, actor: str, at: str, what: str = "") -> None:
    """Note that a change has lifted the signature of a case, if it has one that was valid until now.

    Parameters
    ----------
    connection : Connection
        Of `Database.write`, after the change.
    case : Row
        As it is after the change.
    scheme : Scheme
    actor : str
        Who made the change; "" for the program.
    at : str
        UTC, ISO 8601.
    what : str, optional
        What was changed; by default the parts that differ.
    """
    row = _last(connection, case)
    if row is None or _lift_of(connection, row) is not None:
        return
    changed = _changed(connection, case, scheme, row)
    if changed:
        text = what or f"{changed} changed"
        connection.execute(lifts.insert().values(sign_off=row.id, actor=actor, at=at, what=text))
        log.append(connection, actor, "lift", at, sign_off=row.id, case=case.key, what=text)


def signature_of(
    connection: Connection, case: Any, scheme: Scheme, known: list[Any] | None = None
) -> Signature:
    """Describe the count of a case for reports, tables and windows.

    Parameters
    ----------
    connection : Connection
    case : Row
    scheme : Scheme
    known : list of Row, optional
        Of `cases.state`, where it was read already.

    Returns
    -------
    Signature
    """
    rows = cases.state(connection, case, scheme) if known is None else known
    mine = counting.counted(rows, scheme, case.goal)
    waiting = Counter(row.predicted_class for row in mine if counting.is_open(row))
    valid = signed(connection, case, scheme)
    lost = None if valid else lifted(connection, case, scheme)
    reviewed = any(row.corrected is not None for row in rows)
    reader, kappa = _second_reader(connection, case, scheme)
    return Signature(
        "signed" if valid else "provisional" if reviewed or lost else "unreviewed",
        signed_by=valid.reviewer if valid else "",
        signed_at=valid.at if valid else "",
        goal=case.goal,
        second_reader=reader,
        kappa=kappa,
        left_out=dict(waiting.most_common()),
        lifted=lost.words() if lost else "",
    )


def _second_reader(connection: Connection, case: Any, scheme: Scheme) -> tuple[str, float | None]:
    """The last person who read the cells of a case blind, and Cohen's kappa with those of that time."""
    if not second_read.last_reader(connection, cases.keys_of(connection, case)):
        return "", None
    try:
        found = second_read.case_agreement(connection, case, None, scheme)
    except ReviewError:
        return "", None
    return found.second, found.kappa if math.isfinite(found.kappa) else None
