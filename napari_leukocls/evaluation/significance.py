"""Tests between two models on the same crops, and over repeated splits.

References
----------
.. [1] McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions or
       percentages. Psychometrika 12, 153-157.
.. [2] Fagerland, M. W., Lydersen, S. and Laake, P. (2013). The McNemar test for binary matched-pairs data: mid-p
       and asymptotic are better than exact conditional. BMC Med. Res. Methodol. 13, 91.
.. [3] DeLong, E. R., DeLong, D. M. and Clarke-Pearson, D. L. (1988). Comparing the areas under two or more
       correlated receiver operating characteristic curves. Biometrics 44, 837-845.
.. [4] Sun, X. and Xu, W. (2014). Fast implementation of DeLong's algorithm. IEEE Signal Process. Lett. 21,
       1389-1393.
.. [5] Agresti, A. and Min, Y. (2005). Simple improved confidence intervals for comparing matched proportions.
       Stat. Med. 24, 729-740.
.. [6] Nadeau, C. and Bengio, Y. (2003). Inference for the generalization error. Mach. Learn. 52, 239-281.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test

from napari_leukocls.errors import ArgumentError, ModelError

#: File of a model's repeated splits.
FILE = "repeats.csv"
#: Metric that is compared over repeats.
METRIC = "macro_f1"


def read_repeats(model: Path) -> dict[str, dict[str, float]]:
    """Read ``repeats.csv``, which training writes into a model's folder or beside it.

    Parameters
    ----------
    model : Path
        Folder of the model.

    Returns
    -------
    dict
        `METRIC`, ``n_train`` and ``n_test`` of each test part, which is named by the hash of its files.
        Empty where there is no such file.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    found = [folder / FILE for folder in (model, model.parent) if (folder / FILE).is_file()]
    if not found:
        return {}
    try:
        with open(found[0], encoding="utf-8", newline="") as stream:
            return {
                row["test_sha256"]: {name: float(row[name]) for name in (METRIC, "n_train", "n_test")}
                for row in csv.DictReader(stream)
            }
    except (OSError, UnicodeDecodeError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise ModelError(
            f"'{found[0]}' cannot be read ({error}); copy the model again, or remove this file."
        ) from error


def compare_repeats(
    first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]
) -> dict[str, Any] | None:
    """Compare two models over the test parts that both were measured on.

    Parameters
    ----------
    first, second : mapping
        As `read_repeats` gives them.

    Returns
    -------
    dict or None
        ``n``, ``metric``, both means, and p of `wilcoxon` and of `corrected_t`; None where fewer than two parts
        are the same.
    """
    shared: Sequence[str] = [part for part in first if part in second]
    if len(shared) < 2:
        return None
    one, other = (np.array([rows[part][METRIC] for part in shared]) for rows in (first, second))
    test_share = float(np.mean([first[part]["n_test"] / first[part]["n_train"] for part in shared]))
    return {
        "n": len(shared),
        "metric": METRIC,
        "first": float(one.mean()),
        "second": float(other.mean()),
        "p_wilcoxon": wilcoxon(one.tolist(), other.tolist()),
        "p_corrected_t": corrected_t(one.tolist(), other.tolist(), test_share),
    }


@dataclass(frozen=True)
class Discordant:
    """Numbers of crops on which one of two models is right and the other wrong.

    Attributes
    ----------
    n : int
        Crops in all.
    lost : int
        The first model right, the second wrong.
    gained : int
        The first model wrong, the second right.
    """

    n: int
    lost: int
    gained: int

    @property
    def difference(self) -> float:
        """Accuracy of the second model minus that of the first; NaN without crops."""
        return (self.gained - self.lost) / self.n if self.n else float("nan")


def discordant(first_right: np.ndarray, second_right: np.ndarray) -> Discordant:
    """Count the crops on which two models differ.

    Parameters
    ----------
    first_right, second_right : array_like of bool, (N,)
        Of the same crops in the same order.

    Returns
    -------
    Discordant

    Raises
    ------
    ArgumentError
        If the arrays differ in length.
    """
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.shape != second.shape:
        raise ArgumentError(f"paired tests need the same crops: {first.shape} and {second.shape}.")
    return Discordant(len(first), int((first & ~second).sum()), int((~first & second).sum()))


def mcnemar(pairs: Discordant) -> float:
    """Two-sided p of McNemar's exact test that both models have the same error rate [1]_.

    It uses only the crops on which the models differ. The exact test is valid for small numbers of these.

    Parameters
    ----------
    pairs : Discordant

    Returns
    -------
    float
    """
    table = [[0, pairs.lost], [pairs.gained, 0]]
    return float(mcnemar_test(table, exact=True).pvalue)


def fall_p(pairs: Discordant) -> float:
    """One-sided mid-p of McNemar's test that the second model is worse than the first.

    The mid-p test keeps the level nearly as well as the exact test and has more power [2]_.

    Parameters
    ----------
    pairs : Discordant

    Returns
    -------
    float
        0.5 or more where no crop was lost.
    """
    differing = pairs.lost + pairs.gained
    return float(
        stats.binom.sf(pairs.lost, differing, 0.5) + 0.5 * stats.binom.pmf(pairs.lost, differing, 0.5)
    )


def difference_interval(pairs: Discordant, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of the difference of two paired accuracies, as Agresti and Min recommend it [5]_.

    Half a crop is added to each of the four cells before Wald's formula, so that the interval has a width even where
    few crops differ.

    Parameters
    ----------
    pairs : Discordant
    confidence : float
        0-1.

    Returns
    -------
    low, high : float
        -1 to 1; NaN without crops.
    """
    if pairs.n == 0:
        return float("nan"), float("nan")
    n, lost, gained = pairs.n + 2, pairs.lost + 0.5, pairs.gained + 0.5
    middle = (gained - lost) / n
    half_width = float(stats.norm.ppf(0.5 + confidence / 2)) * float(
        np.sqrt((lost + gained) / n - middle**2) / np.sqrt(n)
    )
    return max(-1.0, middle - half_width), min(1.0, middle + half_width)


@dataclass(frozen=True)
class AucTest:
    """Two areas under the ROC curve on the same crops.

    Attributes
    ----------
    first, second : float
        Areas.
    error : float
        Standard error of their difference.
    p : float
        Two-sided; 1 where the areas are equal, NaN where all crops are positive or none is.
    """

    first: float
    second: float
    error: float
    p: float


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> AucTest:
    """DeLong's test that two scores of the same crops have the same area under the ROC curve [3]_.

    Computed by the mid-rank form of Sun and Xu [4]_.

    Parameters
    ----------
    positive : array_like of bool, (N,)
    first, second : array_like, (N,)
        Larger is more likely positive.

    Returns
    -------
    AucTest
    """
    is_positive = np.asarray(positive, dtype=bool)
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    if m == 0 or n == 0:
        return AucTest(*[float("nan")] * 4)
    areas, of_positive, of_negative = [], [], []
    for score in (np.asarray(first, dtype=float), np.asarray(second, dtype=float)):
        up, down, both = score[is_positive], score[~is_positive], stats.rankdata(score)
        # Placement values: the share of the crops of the other kind that each crop ranks above or below.
        of_positive.append((both[is_positive] - stats.rankdata(up)) / n)
        of_negative.append(1 - (both[~is_positive] - stats.rankdata(down)) / m)
        areas.append(float(of_positive[-1].mean()))
    spread = 0.0
    for placements, count in ((of_positive, m), (of_negative, n)):
        if count > 1:
            spread += float(np.var(placements[0] - placements[1], ddof=1)) / count
    error, difference = float(np.sqrt(spread)), areas[1] - areas[0]
    if error == 0:
        return AucTest(areas[0], areas[1], 0.0, 1.0 if difference == 0 else 0.0)
    return AucTest(areas[0], areas[1], error, float(2 * stats.norm.sf(abs(difference) / error)))


def wilcoxon(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test over repeats.

    Parameters
    ----------
    first, second : sequence of float
        A metric of two models over the same repeats (splits).

    Returns
    -------
    float
        1 where no pair differs.

    Raises
    ------
    ArgumentError
        If the two do not have the same number of repeats.

    Notes
    -----
    Repeats that are drawn from one set share crops, so that this p is too small; see `corrected_t`.
    """
    one, other = _repeats(first, second)
    if np.array_equal(one, other):
        return 1.0
    return float(stats.wilcoxon(other, one).pvalue)


def corrected_t(first: Sequence[float], second: Sequence[float], test_share: float) -> float:
    """Two-sided p of Nadeau and Bengio's t-test, which corrects for repeats that share crops [6]_.

    Parameters
    ----------
    first, second : sequence of float
        A metric of two models over the same repeats (splits).
    test_share : float
        Number of test crops of a repeat divided by the number of its training crops.

    Returns
    -------
    float

    Raises
    ------
    ArgumentError
        If there are fewer than two repeats, or the two do not have the same number.
    """
    one, other = _repeats(first, second)
    difference = other - one
    if len(difference) < 2:
        raise ArgumentError("a comparison needs at least two repeats; give more.")
    variance = float(difference.var(ddof=1))
    if variance == 0:
        return 1.0 if difference.mean() == 0 else 0.0
    statistic = difference.mean() / np.sqrt((1 / len(difference) + test_share) * variance)
    return float(2 * stats.t.sf(abs(statistic), len(difference) - 1))


def _repeats(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != other.shape or one.ndim != 1 or len(one) == 0:
        raise ArgumentError("repeats are compared in pairs: give the same number for both models.")
    return one, other
