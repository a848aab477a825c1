"""The certificate of a proficiency round, as one HTML page that can be printed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from napari_leukocls.errors import ReviewError
from napari_leukocls.io.html import render
from napari_leukocls.review.proficiency import RoundRecord
from napari_leukocls.review.proficiency_outcome import Outcome
from napari_leukocls.scheme import Scheme


def verdict(outcome: Outcome) -> str:
    """State whether the agreement that the laboratory wants is reached.

    Parameters
    ----------
    outcome : Outcome

    Returns
    -------
    str
        "" if the laboratory wants none.
    """
    if outcome.required is None or outcome.reached is None:
        return ""
    share = f"{100 * outcome.required:.0f} %"
    if not outcome.reached:
        return f"The wanted agreement of {share} is not reached."
    if outcome.observed_low < outcome.required:
        return (
            f"The wanted agreement of {share} is reached, but the limits include less: "
            "more cells would make it certain."
        )
    return f"The wanted agreement of {share} is reached."


def class_rows(outcome: Outcome, scheme: Scheme) -> list[dict[str, Any]]:
    """The agreement by class, as texts.

    Parameters
    ----------
    outcome : Outcome
    scheme : Scheme

    Returns
    -------
    list of dict
        ``name, display, reference, learner, both, found, limits``.
    """
    rows = []
    for row in outcome.classes.to_dict("records"):
        low, high = row["found_low"], row["found_high"]
        rows.append(
            {
                "name": row["class"],
                "display": _display(row["class"], scheme),
                "reference": row["reference"],
                "learner": row["learner"],
                "both": row["both"],
                "found": _percent(row["found"]),
                "limits": "–" if math.isnan(low) else f"{100 * low:.0f} to {100 * high:.0f}",
            }
        )
    return rows


def count_rows(outcome: Outcome, scheme: Scheme) -> list[dict[str, Any]]:
    """The percentages of both counts with Ruemke's limits, as texts.

    Parameters
    ----------
    outcome : Outcome
    scheme : Scheme

    Returns
    -------
    list of dict
        ``name, display, reference, limits, learner, within``.
    """
    return [
        {
            "name": row["class"],
            "display": _display(row["class"], scheme),
            "reference": _number(row["reference_percent"]),
            "limits": "–" if math.isnan(row["low"]) else f"{row['low']:.0f} to {row['high']:.0f}",
            "learner": _number(row["learner_percent"]),
            "within": bool(row["within"]),
        }
        for row in outcome.counts.to_dict("records")
    ]


def certificate_html(record: RoundRecord, scheme: Scheme, earlier: Sequence[RoundRecord] = ()) -> str:
    """Fill the certificate of a finished round.

    Parameters
    ----------
    record : RoundRecord
    scheme : Scheme
    earlier : sequence of RoundRecord
        The learner's rounds so far, for the record over time; open ones are left out.

    Returns
    -------
    str
        HTML, with everything inside.

    Raises
    ------
    ReviewError
        If the round is not finished.
    """
    outcome = record.outcome
    if outcome is None:
        raise ReviewError("the round is not finished: a certificate is for finished rounds.")
    return render(
        "certificate",
        {},
        learner=record.learner,
        slides=record.name,
        by=record.by,
        finished_at=record.finished_at,
        outcome=outcome,
        verdict=verdict(outcome),
        lines=outcome.words(scheme),
        classes=class_rows(outcome, scheme),
        counts=count_rows(outcome, scheme),
        differing=[
            {
                "cell": int(row["cell_id"]) + 1,
                "learner": _display(row["second"], scheme),
                "reference": _display(row["first"], scheme),
            }
            for row in outcome.agreement.disagreements.to_dict("records")
        ],
        record=[
            {
                "finished": one.finished_at[:10],
                "slides": one.name,
                "cells": one.outcome.answered,
                "agreement": _percent(one.outcome.agreement.observed),
                "kappa": "–"
                if math.isnan(one.outcome.agreement.kappa)
                else f"{one.outcome.agreement.kappa:.2f}",
            }
            for one in earlier
            if one.outcome is not None
        ],
    )


def _display(name: str, scheme: Scheme) -> str:
    return scheme[name].display if name in scheme else name


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.0f}"


def _number(percent: float) -> str:
    return "–" if math.isnan(percent) else f"{percent:.1f}"
