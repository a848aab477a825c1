"""The differential against published limits, and what counts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.measurement.differential import (
    COUNT_COLUMNS,
    cells_needed,
    differential,
    exact_limits,
    goodman_limits,
)
from napari_leukocls.scheme import default_scheme

MODEL = (
    "neutrophil eosinophil basophil lymphocyte monocyte immature_granulocyte erythroblast platelet".split()
)

# Percent seen -> limits at 100, 200, 400 and 1000 cells (Clopper-Pearson, one decimal).
PUBLISHED = {
    0: ((0, 3.6), (0, 1.8), (0, 0.9), (0, 0.4)),
    1: ((0.0, 5.4), (0.1, 3.6), (0.3, 2.5), (0.5, 1.8)),
    5: ((1.6, 11.3), (2.4, 9.0), (3.1, 7.6), (3.7, 6.5)),
    10: ((4.9, 17.6), (6.2, 15.0), (7.2, 13.4), (8.2, 12.0)),
    20: ((12.7, 29.2), (14.7, 26.2), (16.2, 24.3), (17.6, 22.6)),
    50: ((39.8, 60.2), (42.9, 57.1), (45.0, 55.0), (46.9, 53.1)),
}


def cells_of(*rows: tuple[str, int], review: str = "", corrected: str = "") -> pd.DataFrame:
    names = [name for name, count in rows for _ in range(count)]
    return pd.DataFrame(
        {
            "slide_id": "s",
            "class": names,
            "needs_review": [bool(review)] * len(names),
            "corrected_class": [corrected] * len(names),
        }
    ).astype({"class": object, "corrected_class": object, "needs_review": bool})


def row(counts: pd.DataFrame, name: str) -> pd.Series:
    return counts.set_index("class").loc[name]


@pytest.mark.parametrize("percent", PUBLISHED)
@pytest.mark.parametrize(("place", "total"), list(enumerate((100, 200, 400, 1000))))
def test_limits_are_the_published_ones(percent: int, place: int, total: int) -> None:
    seen = percent * total // 100
    cells = cells_of(("monocyte", seen), ("neutrophil", total - seen))
    found = row(differential(cells, default_scheme(), MODEL), "monocyte")
    assert found["count"] == seen
    assert found["percent"] == pytest.approx(percent)
    low, high = PUBLISHED[percent][place]
    assert found["ci95_low"] == pytest.approx(low, abs=0.0501)
    assert found["ci95_high"] == pytest.approx(high, abs=0.0501)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_limits_hold_the_share_and_stay_between_0_and_1(case: tuple[int, int]) -> None:
    seen, total = case
    low, high = exact_limits(np.array([seen]), total)[:, 0]
    assert 0 <= low <= seen / total <= high <= 1
    assert (low == 0) == (seen == 0)
    assert (high == 1) == (seen == total)


def test_red_cells_platelets_and_erythroblasts_are_outside_the_denominator() -> None:
    cells = cells_of(
        ("neutrophil", 60), ("lymphocyte", 40), ("erythroblast", 5), ("platelet", 30), ("red_cell", 900)
    )
    counts = differential(cells, default_scheme(), MODEL)
    assert tuple(counts.columns) == COUNT_COLUMNS
    assert row(counts, "neutrophil")["percent"] == 60
    assert row(counts, "erythroblast")["per_100_wbc"] == 5
    assert np.isnan(row(counts, "erythroblast")["percent"])
    assert row(counts, "red_cell")["count"] == 900
    assert np.isnan(row(counts, "red_cell")["per_100_wbc"])
    assert counts.loc[counts["in_differential"], "percent"].sum() == pytest.approx(100)
    assert list(counts["class"]) == [*MODEL, "red_cell"], "also the classes with none, in the scheme's order"
    assert counts.attrs["limits"].startswith("Clopper-Pearson")


def test_cells_to_review_count_only_once_a_person_has_settled_them() -> None:
    sure = cells_of(("neutrophil", 10))
    unsure = cells_of(("monocyte", 4), review="yes")
    settled = cells_of(("blast", 2), review="yes", corrected="blast")
    counts = differential(pd.concat([sure, unsure, settled]), default_scheme(), MODEL)
    assert row(counts, "monocyte")["count"] == 0
    assert row(counts, "blast")["count"] == 2, "a class that the model does not have, given by a person"
    assert row(counts, "neutrophil")["percent"] == pytest.approx(1000 / 12)


def test_a_correction_counts_as_what_the_person_said() -> None:
    cells = cells_of(("neutrophil", 3), corrected="eosinophil")
    counts = differential(cells, default_scheme(), MODEL)
    assert row(counts, "eosinophil")["count"] == 3
    assert row(counts, "neutrophil")["count"] == 0


@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_field_with_no_leukocyte_has_zeros_and_empty_percents(simultaneous: bool) -> None:
    scheme = default_scheme()
    for cells in (cells_of(), cells_of(("red_cell", 7), ("erythroblast", 1))):
        counts = differential(cells, scheme, MODEL, slide_id="empty", simultaneous=simultaneous)
        assert set(counts["slide_id"]) == {"empty"}
        assert counts[["percent", "ci95_low", "ci95_high", "per_100_wbc"]].isna().all(axis=None)
        assert counts.loc[counts["in_differential"], "count"].sum() == 0


def test_goodmans_limits_are_his_formula_and_wider() -> None:
    """Goodman (1965): roots of (p - x/n)^2 = A p (1 - p) / n, A the chi-square quantile 1 - 0.05 / k."""
    from scipy.stats import chi2

    counts = np.array([56, 72, 73, 59, 62, 87, 58])
    total, quantile = counts.sum(), chi2.ppf(1 - 0.05 / len(counts), 1)
    low, high = goodman_limits(counts)
    for limit in (low, high):
        gap = (limit - counts / total) ** 2
        assert gap == pytest.approx(quantile * limit * (1 - limit) / total)
    cells = cells_of(("neutrophil", 60), ("lymphocyte", 40))
    alone = row(differential(cells, default_scheme(), MODEL), "lymphocyte")
    together = differential(cells, default_scheme(), MODEL, simultaneous=True)
    assert together.attrs["limits"].startswith("Goodman")
    assert row(together, "lymphocyte")["ci95_high"] > alone["ci95_high"]


@pytest.mark.parametrize("total", [1, 2, 7, 100, 2000])
def test_exact_limits_are_those_of_statsmodels(total: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    count = np.arange(total + 1)
    expected = proportion_confint(count, total, alpha=0.05, method="beta")
    np.testing.assert_allclose(exact_limits(count, total), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("counts", [(0, 5), (100, 0, 0, 0), (1, 2, 3), (300, 40, 5, 0, 7, 1)])
def test_goodmans_limits_are_those_of_statsmodels(counts: tuple[int, ...]) -> None:
    from statsmodels.stats.proportion import multinomial_proportions_confint

    expected = multinomial_proportions_confint(counts, alpha=0.05, method="goodman").T
    np.testing.assert_allclose(goodman_limits(np.array(counts)), np.clip(expected, 0, 1), rtol=0, atol=1e-9)


def test_how_many_cells_to_count() -> None:
    enough = cells_needed(0.5, 0.03)
    assert enough == pytest.approx(1.96**2 * 0.25 / 0.03**2, rel=0.04), "near the normal approximation"
    assert cells_needed(0.2, 0.03) < enough
    low, high = exact_limits(np.array([enough // 2]), enough)[:, 0]
    assert high - low == pytest.approx(0.06, abs=1e-4)
    for wrong in ((1.5, 0.03), (0.5, 0), (0.5, 3)):
        with pytest.raises(ArgumentError, match="as fractions"):
            cells_needed(*wrong)
