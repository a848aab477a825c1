"""Everything that follows from the counts of a slide: cells per litre, flags, changes since the last count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import pandas as pd

from napari_leukocls.measurement.absolute import WhiteCells, wbc_findings, white_cells, with_absolute
from napari_leukocls.measurement.delta import EarlierCount, delta_findings
from napari_leukocls.measurement.differential import count_unsettled
from napari_leukocls.measurement.findings import measured
from napari_leukocls.measurement.flags import Flag, flags
from napari_leukocls.measurement.platelet_estimate import platelet_estimates
from napari_leukocls.measurement.rules import RuleSet, default_rules
from napari_leukocls.measurement.smudges import FINDING as SMUDGES
from napari_leukocls.measurement.smudges import smudge_finding
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import Finding, SlideResult

Result = TypeVar("Result", bound=SlideResult)

#: Key of `SlideResult.run` that holds the last count of the patient.
EARLIER = "earlier_count"


@dataclass(frozen=True)
class Judgement(Generic[Result]):
    """A result as it is reported.

    Attributes
    ----------
    result : SlideResult
        With absolute counts where they are known, and with all findings.
    white : WhiteCells or None
    flags : tuple of Flag
        Of the rules and the reference ranges.
    delta : tuple of Finding
        Changes since the last count of the patient.
    others : tuple of Finding
        Findings that bring a rule of their own, which no rule of the laboratory judges.
    """

    result: Result
    white: WhiteCells | None
    flags: tuple[Flag, ...]
    delta: tuple[Finding, ...]
    others: tuple[Finding, ...] = ()


def judge(result: Result, rules: RuleSet | None = None, scheme: Scheme | None = None) -> Judgement[Result]:
    """Judge a result by the rules of the laboratory.

    Parameters
    ----------
    result : SlideResult
        Findings of an earlier judgement are made anew.
    rules : RuleSet, optional
        By default those that ship, with the laboratory's own.
    scheme : Scheme, optional

    Returns
    -------
    Judgement

    Raises
    ------
    ArgumentError
        If the laboratory's file of rules is wrong.
    """
    rules, scheme = rules or default_rules(), scheme or default_scheme()
    white = white_cells(result, rules.counting, scheme)
    found = (
        *_with_smudges(measured(result.findings), result),
        *wbc_findings(white, result.counts, rules.counting),
        *platelet_estimates(result, rules.counting, scheme),
    )
    raised = flags(result, rules, scheme, white, found)
    earlier = earlier_count(result)
    changes = () if earlier is None else delta_findings(result.counts, earlier, scheme)
    findings = (*(flag.finding for flag in raised), *found, *changes)
    judged = replace(result, counts=with_absolute(result.counts, white), findings=findings)
    referred = {rule.finding for rule in rules.rules}
    others = tuple(one for one in measured(found) if one.rule and one.name not in referred)
    return Judgement(judged, white, raised, changes, others)


def _with_smudges(findings: tuple[Finding, ...], result: SlideResult) -> tuple[Finding, ...]:
    """Count the smudge cells again: a person may have named some since."""
    return tuple(
        smudge_finding(result.cells, result.counts) if one.name == SMUDGES else one for one in findings
    )


def cells_to_review(result: SlideResult) -> int:
    """Count the cells that a person has yet to look at.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    int
        0 of a signed count: cells after its goal are in no count.
    """
    return 0 if result.signature.is_signed else count_unsettled(result.cells)


def with_earlier(result: Result, earlier: EarlierCount | None) -> Result:
    """Set the last count of the patient, for the delta check.

    Parameters
    ----------
    result : SlideResult
    earlier : EarlierCount or None
        None takes an earlier one away.

    Returns
    -------
    SlideResult
        Of the same type. Its ``run`` holds the count, and with it ``run.json``.
    """
    run = {key: value for key, value in result.run.items() if key != EARLIER}
    if earlier is not None:
        inside = earlier.counts[earlier.counts["in_differential"].astype(bool)]
        cells = {str(name): int(n) for name, n in zip(inside["class"], inside["count"], strict=True)}
        run[EARLIER] = {"slide_id": earlier.slide_id, "when": earlier.when, "counts": cells}
    return replace(result, run=run)


def earlier_count(result: SlideResult) -> EarlierCount | None:
    """Read the last count of the patient from a result.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    EarlierCount or None
    """
    held: Any = result.run.get(EARLIER)
    if not isinstance(held, Mapping) or not isinstance(held.get("counts"), Mapping):
        return None
    names = list(held["counts"])
    counts = pd.DataFrame(
        {
            "class": names,
            "count": [int(held["counts"][name]) for name in names],
            "in_differential": [True] * len(names),
        }
    )
    return EarlierCount(counts, str(held.get("when", "")), str(held.get("slide_id", "")))


__all__ = ["EARLIER", "Judgement", "cells_to_review", "earlier_count", "judge", "with_earlier"]
