"""McNemar, DeLong, Holm, repeated splits."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.errors import ArgumentError, ModelError

FILE = "repeats.csv"

METRIC = "macro_f1"


def read_repeats(model: Path) -> dict[str, dict[str, float]]:
    """Repeats of a model, as its training left them in ``repeats.csv``: in its folder or beside it.

    Parameters
    ----------
    model : Path
        Folder of the model.

    Returns
    -------
    dict
        Of each test part (by the hash of its files): `METRIC`, ``n_train`` and ``n_test``. Empty where
        there are none.

    Raises
    ------
    ModelError
        Where the file is there and cannot be read.
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
        raise ModelError(f"'{found[0]}' cannot be read ({error}); copy it again, or move it away.") from error


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
        ``n``, ``metric``, both means, and p of Wilcoxon's test and of the t-test that allows for repeats which
        share crops; None where fewer than two parts are the same.
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
    """Crops on which two models differ.

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
        """Accuracy of the second model less that of the first; NaN without crops."""
        return (self.gained - self.lost) / self.n if self.n else float("nan")


def discordant(first_right: np.ndarray, second_right: np.ndarray) -> Discordant:
    """Count the crops on which two models differ.

    Parameters
    ----------
    first_right, second_right : array_like of bool, (N,)
        Of the same crops in the same order.
    """
    first, second = np.asarray(first_right, dtype=bool), np.asarray(second_right, dtype=bool)
    if first.shape != second.shape:
        raise ArgumentError(f"paired tests need the same crops: {first.shape} and {second.shape}.")
    return Discordant(len(first), int((first & ~second).sum()), int((~first & second).sum()))


def mcnemar(pairs: Discordant) -> float:
    """Two-sided p of McNemar's exact test that both models err equally often.

    Only crops on which they differ count. Exact, so that few of them are no matter.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    table = [[0, pairs.lost], [pairs.gained, 0]]
    return float(test(table, exact=True).pvalue)


def fall_p(pairs: Discordant) -> float:
    """One-sided mid-p of McNemar's test: how often chance alone loses so many crops to the second model.

    The mid-p form keeps the level nearly as well as the exact one and finds more [2]_.

    Returns
    -------
    float
        0.5 or more where nothing was lost.
    """
    from scipy.stats import binom

    differing = pairs.lost + pairs.gained
    return float(binom.sf(pairs.lost, differing, 0.5) + 0.5 * binom.pmf(pairs.lost, differing, 0.5))


def difference_interval(pairs: Discordant, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the difference of two paired accuracies, as Agresti and Min (2005) recommend it.

    Half a crop is added to each of the four cells before Wald's formula, so that few differing crops do not
    give an interval without width.
    """
    from scipy.stats import norm

    if pairs.n == 0:
        return float("nan"), float("nan")
    n, lost, gained = pairs.n + 2, pairs.lost + 0.5, pairs.gained + 0.5
    middle = (gained - lost) / n
    reach = float(norm.ppf(0.5 + confidence / 2)) * float(
        np.sqrt((lost + gained) / n - middle**2) / np.sqrt(n)
    )
    return max(-1.0, middle - reach), min(1.0, middle + reach)


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
        Two-sided; 1 where the areas are the same and NaN where there is only one kind of crop.
    """

    first: float
    second: float
    error: float
    p: float


def delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> AucTest:
    """DeLong's test that two scores of the same crops have the same area under the ROC curve.

    Parameters
    ----------
    positive : array_like of bool, (N,)
    first, second : array_like, (N,)
        Larger is more likely positive.

    References
    ----------
    [3]_, with the mid-rank form of Sun and Xu (2014).
    """
    from scipy.stats import norm, rankdata

    is_positive = np.asarray(positive, dtype=bool)
    m, n = int(is_positive.sum()), int((~is_positive).sum())
    if m == 0 or n == 0:
        return AucTest(*[float("nan")] * 4)
    areas, of_positive, of_negative = [], [], []
    for score in (np.asarray(first, dtype=float), np.asarray(second, dtype=float)):
        up, down, both = score[is_positive], score[~is_positive], rankdata(score)
        # How much of the other kind each crop beats: the placement values.
        of_positive.append((both[is_positive] - rankdata(up)) / n)
        of_negative.append(1 - (both[~is_positive] - rankdata(down)) / m)
        areas.append(float(of_positive[-1].mean()))
    spread = 0.0
    for places, count in ((of_positive, m), (of_negative, n)):
        if count > 1:
            spread += float(np.var(places[0] - places[1], ddof=1)) / count
    error, difference = float(np.sqrt(spread)), areas[1] - areas[0]
    if error == 0:
        return AucTest(areas[0], areas[1], 0.0, 1.0 if difference == 0 else 0.0)
    return AucTest(areas[0], areas[1], error, float(2 * norm.sf(abs(difference) / error)))


def wilcoxon(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed ranks over repeats, pair by pair; 1 where no pair differs.

    Parameters
    ----------
    first, second : sequence of float
        A metric of two models over the same repeats (splits).

    Notes
    -----
    Repeats drawn from one set share crops, so this p is too small; see `corrected_t`.
    """
    from scipy.stats import wilcoxon as test

    one, other = _repeats(first, second)
    if np.array_equal(one, other):
        return 1.0
    return float(test(other, one).pvalue)


def corrected_t(first: Sequence[float], second: Sequence[float], test_share: float) -> float:
    """Two-sided p of Nadeau and Bengio's t-test, which allows for repeats that share crops [4]_.

    Parameters
    ----------
    first, second : sequence of float
        A metric of two models over the same repeats (splits).
    test_share : float
        Test crops of a repeat divided by its training crops.
    """
    from scipy.stats import t

    one, other = _repeats(first, second)
    difference = other - one
    if len(difference) < 2:
        raise ArgumentError("repeats are compared from two on; give more.")
    variance = float(difference.var(ddof=1))
    if variance == 0:
        return 1.0 if difference.mean() == 0 else 0.0
    statistic = difference.mean() / np.sqrt((1 / len(difference) + test_share) * variance)
    return float(2 * t.sf(abs(statistic), len(difference) - 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjustment of several p; NaN stays and does not count [5]_."""
    given = np.asarray(p_values, dtype=float)
    adjusted = np.full(len(given), np.nan)
    known = np.flatnonzero(np.isfinite(given))
    order = known[np.argsort(given[known], kind="stable")]
    # statsmodels does the same, and sweeps all of Python's memory each time.
    raised = given[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in adjusted]


def _repeats(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if one.shape != other.shape or one.ndim != 1 or len(one) == 0:
        raise ArgumentError(
            "repeats are compared pair by pair: give as many of the one model as of the other."
        )
    return one, other
