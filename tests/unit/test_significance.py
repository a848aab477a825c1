"""Paired tests against published values, statsmodels, SciPy and formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation.significance import (
    Discordant,
    corrected_t,
    delong,
    difference_interval,
    discordant,
    fall_p,
    mcnemar,
    wilcoxon,
)
from napari_leukocls.measurement.comparison import holm

# The ovarian-cancer data of DeLong et al. (1988), as the manual of SAS's LOGISTIC procedure prints them:
# albumin, total protein, K-G score, indication.
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1
3.8 5.7 5 1 3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0
2.3 4.4 6 1 4.2 7.6 4 0 4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1
3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1 4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0
3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1 2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1
3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1
"""


def test_delong_gives_the_published_areas_errors_and_p() -> None:
    albumin, protein, score, indication = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
    positive = indication == 1
    with_albumin = delong(positive, 10 - score, albumin)
    with_protein = delong(positive, 10 - score, protein)
    assert (with_albumin.first, with_albumin.second) == pytest.approx((0.7258, 0.7366), abs=5e-5)
    assert with_protein.second == pytest.approx(0.6478, abs=5e-5)
    assert with_albumin.error == pytest.approx(0.0953, abs=5e-5)
    assert with_albumin.p == pytest.approx(0.9102, abs=5e-4)
    assert with_protein.p == pytest.approx(0.4561, abs=5e-4)


def brute_delong(positive: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference of areas and its variance from all pairs."""
    wins = []
    for score in (first, second):
        high, low = score[positive][:, None], score[~positive][None, :]
        wins.append((high > low) + 0.5 * (high == low))
    difference = wins[1] - wins[0]
    variance = (
        difference.mean(1).var(ddof=1) / positive.sum() + difference.mean(0).var(ddof=1) / (~positive).sum()
    )
    return float(difference.mean()), float(variance)


@given(st.integers(0, 10_000))
def test_delong_is_the_variance_over_all_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    positive = np.r_[True, True, False, False, rng.random(20) < 0.4]
    scores = rng.integers(0, 6, (2, 24)).astype(float)
    found = delong(positive, *scores)
    difference, variance = brute_delong(positive, *scores)
    assert found.second - found.first == pytest.approx(difference, abs=1e-12)
    assert found.error**2 == pytest.approx(variance, abs=1e-12)


def test_delong_without_a_difference_or_without_a_kind() -> None:
    same = delong(np.array([True, False, True, False]), np.arange(4), np.arange(4))
    assert (same.error, same.p) == (0, 1)
    assert math.isnan(delong(np.ones(3, bool), np.arange(3), np.arange(3)).p)


def test_mcnemar_of_a_textbook_case() -> None:
    """Agresti's approval ratings: 150 and 86 changed; and an exact case worked by hand, 1 against 5."""
    assert mcnemar(Discordant(1600, 150, 86)) == pytest.approx(3.7e-5, rel=0.1)
    assert mcnemar(Discordant(20, 1, 5)) == pytest.approx(2 * (1 + 6) / 64)
    assert mcnemar(Discordant(20, 0, 0)) == 1


def test_crops_on_which_models_differ_are_counted() -> None:
    found = discordant([True, True, False, False, True], [True, False, True, False, False])
    assert found == Discordant(5, lost=2, gained=1)
    assert found.difference == pytest.approx(-0.2)
    with pytest.raises(ArgumentError, match="same crops"):
        discordant([True], [True, False])


def test_the_p_of_a_fall_by_hand() -> None:
    assert fall_p(Discordant(9, 4, 0)) == pytest.approx(0.5**5)
    assert fall_p(Discordant(9, 4, 1)) == pytest.approx((1 + 0.5 * 5) / 32)
    assert fall_p(Discordant(9, 0, 0)) == 0.5
    assert fall_p(Discordant(9, 1, 4)) > 0.5


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_mid_p_is_that_of_statsmodels(lost: int, gained: int) -> None:
    """Both sides together: the two-sided exact p less the probability of what was seen."""
    from scipy.stats import binom

    seen = binom.pmf(lost, lost + gained, 0.5)
    smaller = min(fall_p(Discordant(99, lost, gained)), fall_p(Discordant(99, gained, lost)))
    exact = mcnemar(Discordant(99, lost, gained))
    if lost != gained:
        assert 2 * smaller == pytest.approx(exact - seen, abs=1e-12)
    assert fall_p(Discordant(99, lost, gained)) + fall_p(Discordant(99, gained, lost)) == pytest.approx(1)


def test_the_level_of_the_fall_test_holds() -> None:
    rng = np.random.default_rng(0)
    lost = rng.binomial(30, 0.5, 4000)
    share = np.mean([fall_p(Discordant(500, int(k), 30 - int(k))) < 0.05 for k in lost])
    assert 0.02 < share < 0.06


def test_the_interval_of_a_difference() -> None:
    low, high = difference_interval(Discordant(100, 0, 0))
    assert -0.03 < low < 0 < high < 0.03
    low, high = difference_interval(Discordant(1000, 40, 10))
    assert (low + high) / 2 == pytest.approx(-0.03, abs=1e-4)
    assert high < 0
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.05 - 0.03**2) / np.sqrt(1000), rel=0.02)


def test_wilcoxon_of_a_published_case() -> None:
    """Cloning plants: Mendenhall's crossed and self-fertilised heights, as SciPy's manual has them."""
    differences = np.array([6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75], dtype=float)
    assert wilcoxon(np.zeros(15), differences) == pytest.approx(0.041259765625)
    assert wilcoxon([1, 2], [1, 2]) == 1
    with pytest.raises(ArgumentError, match="in pairs"):
        wilcoxon([1, 2], [1])


def test_the_corrected_t_by_hand_and_wider_than_the_plain_one() -> None:
    from scipy.stats import t, ttest_rel

    one = np.array([0.90, 0.91, 0.89, 0.92, 0.90])
    other = one + np.array([0.01, 0.02, 0.015, 0.005, 0.01])
    assert corrected_t(one, other, 0) == pytest.approx(ttest_rel(one, other).pvalue)
    difference = other - one
    statistic = difference.mean() / np.sqrt((0.2 + 0.25) * difference.var(ddof=1))
    assert corrected_t(one, other, 0.25) == pytest.approx(2 * t.sf(statistic, 4))
    assert corrected_t(one, one, 0.25) == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    adjusted = holm([0.02, float("nan"), 0.03])
    assert adjusted[0] == pytest.approx(0.04) and math.isnan(adjusted[1])
    assert holm([]) == []


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
