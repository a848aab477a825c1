"""Delta check: a count against an earlier one of the same patient."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from napari_leukocls.errors import InputError
from napari_leukocls.measurement.comparison import compare_counts
from napari_leukocls.measurement.findings import short_number
from napari_leukocls.scheme import Scheme
from napari_leukocls.types import Finding

#: Beginning of the names of the findings.
DELTA = "delta_"
_ALPHA = 0.05


@dataclass(frozen=True)
class EarlierCount:
    """An earlier count of the same patient.

    Attributes
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``; ``class``, ``count`` and ``in_differential`` are needed.
    when : str
        Its date, as it is shown.
    slide_id : str
    """

    counts: pd.DataFrame
    when: str = ""
    slide_id: str = ""


def delta_findings(counts: pd.DataFrame, earlier: EarlierCount, scheme: Scheme) -> tuple[Finding, ...]:
    """Compare a count with an earlier one, class by class.

    Parameters
    ----------
    counts : pandas.DataFrame
        Columns as in ``counts.csv``.
    earlier : EarlierCount
    scheme : Scheme

    Returns
    -------
    tuple of Finding
        ``delta_<class>`` of each class of the differential. The value is the percentage now; the limits are the
        percentages that this count may show if nothing has changed (Rümke's limits for two counts). ``certain`` if
        Fisher's test differs for all classes together (Holm, 5 %); ``possible`` if it differs for this class alone.
        Nothing if one of the counts has no leukocyte.
    """
    # The laboratory may have taken a class out of its scheme since.
    known = earlier.counts[earlier.counts["class"].map(lambda name: name in scheme).astype(bool)]
    try:
        comparison = compare_counts(known, counts, scheme)
    except InputError:
        return ()
    since = (
        " since " + " of ".join(filter(None, (earlier.slide_id, earlier.when))) if earlier.slide_id else ""
    )
    since = since or (f" since {earlier.when}" if earlier.when else " since the last count")
    found = []
    for row in comparison.table.to_dict("records"):
        entry = scheme[row["class"]]
        before, now = float(row["first_percent"]), float(row["second_percent"])
        state = "certain" if row["p_holm"] < _ALPHA else "possible" if row["p"] < _ALPHA else "absent"
        low, high = float(row["repeat_low"]), float(row["repeat_high"])
        word = {
            "certain": "changed",
            "possible": "perhaps changed",
            "absent": "not changed by more than chance",
        }
        text = (
            f"{entry.display}: {short_number(now)} % after {short_number(before)} %{since}: {word[state]} "
            f"(by chance {short_number(low)} to {short_number(high)} %)."
        )
        rule = "differs from the last count (Fisher's exact test, Holm, 5 %)"
        found.append(Finding(f"{DELTA}{entry.name}", now, low, high, "%", state, rule, text))  # type: ignore[arg-type]
    return tuple(found)


__all__ = ["DELTA", "EarlierCount", "delta_findings"]
