"""How well a learner's count agrees with its reference: agreement of each class, kappa, and Ruemke's limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from napari_leukocls.measurement.differential import exact_limits
from napari_leukocls.measurement.fine import CLASSES, FINE, whole_of
from napari_leukocls.review.records import Agreement
from napari_leukocls.review.second_read import compare
from napari_leukocls.scheme import Scheme, default_scheme

#: With fewer cells of a class, its limits are so wide that they say little about the learner.
FEW_CELLS = 10


@dataclass(frozen=True)
class Outcome:
    """A learner's count set against its reference.

    Attributes
    ----------
    agreement : Agreement
        Of all cells; the first reader is the reference, the second the learner. ``cell_id`` is the place of a cell
        in the round.
    observed_low, observed_high : float
        Exact 95 % limits of the share of cells on which both agree, 0-1.
    classes : pandas.DataFrame
        A row a class: ``class, reference, learner, both, found, found_low, found_high``; `found` is the share of the
        reference's cells that the learner gave this class, with its exact 95 % limits, NaN without such cells.
    counts : pandas.DataFrame
        A row a class of the differential: ``class, reference_percent, low, high, learner_percent, within``. `low` and
        `high` are Ruemke's limits of the reference's percentage for a count of so many leukocytes, and `within`
        says whether the learner's percentage lies between them.
    leukocytes : int
        Cells of the reference that are in the differential.
    asked, answered : int
        Cells of the round, and those that the learner gave a class.
    required : float or None
        The agreement that the laboratory wants, 0-1.
    """

    agreement: Agreement
    observed_low: float
    observed_high: float
    classes: pd.DataFrame
    counts: pd.DataFrame
    leukocytes: int
    asked: int
    answered: int
    required: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the wanted agreement is reached; None where none is wanted or no cell was answered."""
        if self.required is None or not self.answered:
            return None
        # As the percentages are shown: 0.7999... of a division is 80 %.
        return bool(round(self.agreement.observed, 9) >= round(self.required, 9))

    @property
    def outside(self) -> list[str]:
        """The classes whose percentage lies outside Ruemke's limits."""
        return [str(name) for name in self.counts.loc[~self.counts["within"], "class"]]

    def words(self, scheme: Scheme | None = None) -> list[str]:
        """Describe the outcome in sentences: agreement, kappa, count, and what limits them.

        Parameters
        ----------
        scheme : Scheme, optional
            For the names of the classes.

        Returns
        -------
        list of str
        """
        scheme = scheme or default_scheme()
        mine = self.agreement
        if not self.answered:
            return ["No cell was answered, so that nothing can be said."]
        agreed = len(mine.disagreements)
        found = [
            f"{self.answered - agreed} of {self.answered} cells agree with the reference: {100 * mine.observed:.0f} % "
            f"(95 % limits {100 * self.observed_low:.0f} to {100 * self.observed_high:.0f} %)."
        ]
        if np.isfinite(mine.kappa):
            limits = f" (95 % limits {mine.low:.2f} to {mine.high:.2f})" if np.isfinite(mine.low) else ""
            found.append(f"Cohen's kappa is {mine.kappa:.2f}{limits}.")
        else:
            found.append("Kappa cannot be computed: all cells are of one class.")
        if self.answered < self.asked:
            left = self.asked - self.answered
            found.append(f"{left} of {self.asked} cells {'was' if left == 1 else 'were'} left unanswered.")
        few = [
            _spoken(str(row["class"]), scheme)
            for row in self.classes.to_dict("records")
            if 0 < row["reference"] < FEW_CELLS
        ]
        if few:
            found.append(f"Fewer than {FEW_CELLS} cells to judge by: {', '.join(few)}.")
        return found


def _spoken(name: str, scheme: Scheme) -> str:
    display = scheme[name].display if name in scheme else name
    return display[:1].lower() + display[1:]


def ruemke_limits(count: int, total: int) -> tuple[float, float]:
    """Ruemke's 95 % limits of a percentage: where it may lie if `total` leukocytes were counted again and again.

    They are the exact (Clopper-Pearson) limits; Ruemke's table has them in whole numbers.

    Parameters
    ----------
    count, total : int
        Cells of the class, and leukocytes counted.

    Returns
    -------
    low, high : float
        Percent.

    References
    ----------
    .. [1] Ruemke, C. L. (1985). The imprecision of the ratio of two percentages observed in differential white blood
           cell counts: a warning. Blood Cells 11, 137-140.
    .. [2] CLSI H20-A2 (2007). Reference leukocyte (WBC) differential count (proportional) and evaluation of
           instrumental methods.
    """
    low, high = exact_limits(np.array([count]), total)[:, 0]
    return 100 * float(low), 100 * float(high)


def coarse(name: str, scheme: Scheme, depth: str = CLASSES) -> str:
    """The class by which answers are compared.

    Parameters
    ----------
    name : str
    scheme : Scheme
    depth : {"classes", "fine"}
        At ``classes``, a finer class is replaced by the class that it is a part of.

    Returns
    -------
    str
    """
    while depth != FINE and name in scheme and whole_of(name, scheme):
        name = whole_of(name, scheme)
    return name


def compare_with_reference(
    reference: Sequence[str],
    answers: Sequence[str | None],
    scheme: Scheme,
    *,
    learner: str,
    by: str,
    depth: str = CLASSES,
    required: float | None = None,
) -> Outcome:
    """Set the answers of a learner against the reference.

    Parameters
    ----------
    reference : sequence of str
        Class of each cell.
    answers : sequence of str or None
        What the learner gave; None for a cell that was left out, which is not compared.
    scheme : Scheme
    learner, by : str
        Names of the learner, and of who made the reference.
    depth : {"classes", "fine"}
        How finely classes are compared.
    required : float, optional
        The agreement that the laboratory wants, 0-1.

    Returns
    -------
    Outcome
    """
    answered = [i for i, answer in enumerate(answers) if answer is not None]
    first = [coarse(reference[i], scheme, depth) for i in answered]
    second = [coarse(str(answers[i]), scheme, depth) for i in answered]
    agreement = compare(answered, first, second, by, learner)
    low = high = float("nan")
    if answered:
        same = sum(one == other for one, other in zip(first, second, strict=True))
        low, high = (float(one) for one in exact_limits(np.array([same]), len(answered))[:, 0])
    counts, leukocytes = _counts(first, second, scheme)
    classes = _by_class(first, second, scheme)
    return Outcome(agreement, low, high, classes, counts, leukocytes, len(reference), len(answered), required)


def _by_class(first: list[str], second: list[str], scheme: Scheme) -> pd.DataFrame:
    one, other = np.array(first, object), np.array(second, object)
    rows = []
    for name in scheme.ordered({*first, *second}):
        mine = one == name
        n, both = int(mine.sum()), int((mine & (other == name)).sum())
        limits = exact_limits(np.array([both]), n)[:, 0] if n else np.full(2, np.nan)
        rows.append((name, n, int((other == name).sum()), both, both / n if n else np.nan, *limits))
    head = ("class", "reference", "learner", "both", "found", "found_low", "found_high")
    return pd.DataFrame(rows, columns=list(head))


def _counts(first: list[str], second: list[str], scheme: Scheme) -> tuple[pd.DataFrame, int]:
    """Percentages of the leukocytes that each reader counted, with Ruemke's limits of the reference."""

    def inside(names: list[str]) -> list[str]:
        return [name for name in names if name in scheme and scheme[name].counted_in_differential]

    one, other = inside(first), inside(second)
    rows = []
    for name in scheme.ordered({*one, *other}):
        mine = 100 * other.count(name) / len(other) if other else np.nan
        if not one:
            rows.append((name, np.nan, np.nan, np.nan, mine, False))
            continue
        low, high = ruemke_limits(one.count(name), len(one))
        rows.append((name, 100 * one.count(name) / len(one), low, high, mine, bool(low <= mine <= high)))
    head = ("class", "reference_percent", "low", "high", "learner_percent", "within")
    return pd.DataFrame(rows, columns=list(head)).astype({"within": bool}), len(one)
