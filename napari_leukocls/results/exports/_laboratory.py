"""Coded results of a count for laboratory systems, the same for FHIR and HL7.

A class has the LOINC code that its entry in the class scheme states. If that is empty, the result has
only the program's own code: no LOINC code is guessed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from napari_leukocls.io.html import capitalize_first
from napari_leukocls.measurement.absolute import ABSOLUTE_COLUMNS, PER_LITRE
from napari_leukocls.measurement.findings import shown_state
from napari_leukocls.measurement.judgement import cells_to_review
from napari_leukocls.measurement.samples import sample_of
from napari_leukocls.scheme import Scheme, default_scheme
from napari_leukocls.types import Finding, SlideResult

LOINC = "http://loinc.org"

UCUM = "http://unitsofmeasure.org"

#: Codes of this program; a laboratory maps them to its own.
OWN = "urn:napari-leukocls:codes"
OWN_SHORT = "99LEUKOCLS"

PANEL = ("differential", "Differential count of a blood smear, image analysis")

COUNTED = ("leukocytes-counted", "Leukocytes counted in the differential")

TO_REVIEW = ("cells-to-review", "Cells that a person has yet to look at")

NOTICE = "For research and for training. Not for diagnosis."

#: Share of leukocytes, cells beside 100 leukocytes, cells.
PERCENT, PER_100, CELLS = "%", "/100{WBCs}", "{cells}"
#: Cells per volume of blood, by any method.
_ABSOLUTE_LOINC = {
    "neutrophil": "26499-4",
    "segmented_neutrophil": "30451-9",
    "band_neutrophil": "26507-4",
    "lymphocyte": "26474-7",
    "monocyte": "26484-6",
    "eosinophil": "26449-9",
    "basophil": "26444-0",
    "blast": "30376-8",
}
_FINDING_LOINC = {"wbc_given": "26464-8"}


@dataclass(frozen=True)
class Coded:
    """One result.

    Attributes
    ----------
    code, display : str
        Of the program's own.
    loinc : str
        "" where none has been looked up.
    value : float
    unit : str
        UCUM.
    low, high : float or None
        95 % limits, in the same unit.
    count : int or None
        Cells that it was worked out from.
    interpretation : {"", "A", "N", "IND"}
        Abnormal, normal, or undecided, as HL7 writes it.
    text : str
        What it says, in words; a value that is nan has nothing else.
    """

    code: str
    display: str
    loinc: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    count: int | None = None
    interpretation: str = ""
    text: str = ""


def coded(result: SlideResult, scheme: Scheme | None = None) -> Iterator[Coded]:
    """List the results of a slide: the number of cells counted, then class by class.

    Classes in the differential are percentages with limits, and 10^9/L where that is known. Classes beside it are given
    per 100 leukocytes. Others (platelets, red cells, artefacts) are left out: their number in a field is not a result
    of the patient. Findings and flags follow.

    Parameters
    ----------
    result : SlideResult
    scheme : Scheme, optional

    Yields
    ------
    Coded
    """
    scheme = scheme or default_scheme()
    counts = result.counts
    inside = counts["in_differential"].astype(bool)
    n_wbc = int(counts.loc[inside, "count"].sum())
    yield Coded(*COUNTED, "", float(n_wbc), CELLS, count=n_wbc)
    n_review = cells_to_review(result)
    yield Coded(*TO_REVIEW, "", float(n_review), CELLS, count=n_review)
    for row in counts.to_dict("records"):
        entry = scheme[row["class"]]
        if math.isfinite(row["percent"]):
            limits = (_rounded(row["ci95_low"]), _rounded(row["ci95_high"]))
            value, unit = row["percent"], PERCENT
        elif math.isfinite(row["per_100_wbc"]):
            limits, value, unit = (None, None), row["per_100_wbc"], PER_100
        else:
            continue
        yield Coded(
            entry.name, entry.display, entry.loinc, _rounded(value) or 0.0, unit, *limits, int(row["count"])
        )
        value, low, high = (_rounded(float(row.get(name, math.nan)), 3) for name in ABSOLUTE_COLUMNS)
        if value is not None:
            code, display = f"{entry.name}-absolute", f"{entry.display}, absolute"
            loinc = _ABSOLUTE_LOINC.get(entry.name, "")
            yield Coded(code, display, loinc, value, PER_LITRE, low, high, int(row["count"]))
    yield from map(_of_finding, result.findings)


def _of_finding(finding: Finding) -> Coded:
    """A finding as a result; its state is the interpretation."""
    states = {"certain": "A", "absent": "N", "possible": "IND"}
    return Coded(
        finding.name,
        finding.text.split(":")[0].rstrip("."),
        _FINDING_LOINC.get(finding.name, ""),
        finding.value,
        finding.unit,
        _rounded(finding.low, 3),
        _rounded(finding.high, 3),
        interpretation=states.get(shown_state(finding), ""),
        text=finding.text,
    )


def report_id(result: SlideResult) -> str:
    """Name the report; the name is the same for the same slide, models and counts.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
        20 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in (result.slide_id, result.source, _hash(result, "classifier")):
        digest.update(part.encode("utf-8", "backslashreplace") + b"\0")
    digest.update(result.counts.to_csv(index=False).encode("utf-8", "backslashreplace"))
    return digest.hexdigest()[:20]


def clean(text: str) -> str:
    """Reduce a text to one line of printable characters, which any receiver can store.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
    """
    written = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(sign if sign.isprintable() else " " for sign in written).strip()


def method(result: SlideResult) -> str:
    """Describe in one line how the count was made.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
    """
    parts = [f"napari-leukocls {result.run.get('version', '')}".strip()]
    for kind in ("segmenter", "classifier"):
        entry = result.run.get(kind)
        name = entry.get("name", "") if isinstance(entry, dict) else str(entry or "")
        parts.append(f"{kind} {name} {_hash(result, kind)[:12]}".strip())
    return clean("; ".join(parts))


def issued_at() -> datetime:
    """Read the clock.

    Returns
    -------
    datetime
        UTC, to the second.
    """
    return datetime.now(UTC).replace(microsecond=0)


def _hash(result: SlideResult, kind: str) -> str:
    entry = result.run.get(kind)
    return str(entry.get("sha256") or "") if isinstance(entry, dict) else ""


def _rounded(value: float, digits: int = 2) -> float | None:
    """Few decimals: the limits say how little more would mean."""
    return round(float(value), digits) if math.isfinite(value) else None


def sample_name(result: SlideResult) -> str:
    """Name the specimen: the identifier of the sample, or else the slide.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    str
    """
    return clean(sample_of(result).identifier or result.slide_id) or "slide"


def state_lines(result: SlideResult) -> list[str]:
    """Describe who signed the count, or that nobody has, and the goal.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    list of str
    """
    signature = result.signature
    goal = [] if signature.goal is None else [f"Goal: {signature.goal} leukocytes."]
    return [clean(capitalize_first(signature.words())) + ".", *goal]


def released_at(result: SlideResult) -> datetime:
    """When the count was signed, or else now.

    Parameters
    ----------
    result : SlideResult

    Returns
    -------
    datetime
        UTC, to the second.
    """
    try:
        signed = datetime.fromisoformat(result.signature.signed_at)
    except ValueError:
        return issued_at()
    return (signed if signed.tzinfo else signed.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
