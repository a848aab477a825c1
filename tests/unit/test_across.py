"""Counts against each other, against published limits, and against the classifier's own errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cards import card_values
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError, InputError, LeukoclsError
from napari_leukocls.measurement.comparison import (
    compare_counts,
    independence_p,
    repeat_limits,
    share_by_position,
)
from napari_leukocls.measurement.corrected import card_matrix, corrected_differential, true_shares
from napari_leukocls.results.exports import write_exports
from tests.results import CLASSES, make_result


def counts(**by_class: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class": list(by_class),
            "count": list(by_class.values()),
            "in_differential": [name not in ("platelet", "erythroblast") for name in by_class],
        }
    )


def test_two_counts_of_one_blood_do_not_differ_and_of_two_do() -> None:
    first = counts(neutrophil=60, lymphocyte=30, monocyte=8, eosinophil=2, erythroblast=50)
    same = compare_counts(first, counts(neutrophil=57, lymphocyte=33, monocyte=6, basophil=4))
    assert (same.n_first, same.n_second) == (100, 100)
    assert same.p > 0.05 and (same.table["p_holm"] > 0.05).all()
    assert list(same.table["class"]) == ["neutrophil", "eosinophil", "basophil", "lymphocyte", "monocyte"]
    other = compare_counts(first, counts(neutrophil=30, lymphocyte=60, monocyte=8, eosinophil=2))
    rows = other.table.set_index("class")
    assert other.p < 0.001 and rows.loc["neutrophil", "p_holm"] < 0.001
    assert rows.loc["monocyte", "p"] == 1
    assert rows.loc["neutrophil", "difference"] == -30
    from statsmodels.stats.proportion import test_proportions_2indep

    expected = test_proportions_2indep(60, 100, 30, 100).pvalue
    assert np.log10(rows.loc["neutrophil", "p"]) == pytest.approx(np.log10(expected), abs=1), "of one order"
    with pytest.raises(InputError, match="without leukocytes"):
        compare_counts(first, counts(platelet=5))


def test_a_second_count_may_differ_by_what_chance_allows() -> None:
    low, high = repeat_limits(10, 100, 100)
    assert (low, high) == (3, 20), "Fisher's exact test of 10 in 100 against 2 and 21 in 100 is below 5 %"
    from scipy.stats import fisher_exact

    for edge, outside in ((3, 2), (20, 21)):
        assert fisher_exact([[10, 90], [edge, 100 - edge]])[1] >= 0.05
        assert fisher_exact([[10, 90], [outside, 100 - outside]])[1] < 0.05
    assert repeat_limits(0, 100, 100) == (0, 5)
    assert repeat_limits(100, 100, 100) == (95, 100)
    narrow, wide = repeat_limits(20, 200, 2000), repeat_limits(20, 200, 50)
    assert wide[0] <= narrow[0] < 10 < narrow[1] <= wide[1]
    with pytest.raises(ArgumentError, match="within its total"):
        repeat_limits(5, 4, 100)


@settings(max_examples=40, deadline=None)
@given(total=st.integers(1, 60), other=st.integers(1, 60), share=st.floats(0, 1))
def test_repeat_limits_hold_the_same_share(total: int, other: int, share: float) -> None:
    count = round(share * total)
    low, high = repeat_limits(count, total, other)
    assert 0 <= low <= 100 * round(count * other / total) / other <= high <= 100


def test_the_test_of_a_whole_table_is_fishers_where_both_can_be_had() -> None:
    from scipy.stats import fisher_exact

    for table in ([[8, 2], [1, 5]], [[10, 10], [9, 11]], [[0, 6], [6, 1]]):
        assert independence_p(np.array(table)) == pytest.approx(fisher_exact(table)[1], abs=0.015)
    assert np.isnan(independence_p(np.array([[3, 4]])))
    assert np.isnan(independence_p(np.zeros((2, 2), int)))


def test_shares_by_place_show_where_a_class_gathers() -> None:
    rng = np.random.default_rng(0)
    n = 400
    x, y = rng.uniform(0, 600, n), rng.uniform(0, 400, n)
    names = np.where((x > 400) & (rng.random(n) < 0.6), "monocyte", "neutrophil")
    cells = pd.DataFrame(
        {
            "class": names,
            "corrected_class": "",
            "needs_review": False,
            "centroid_y": y,
            "centroid_x": x,
            "bbox_y1": y + 5,
            "bbox_x1": x + 5,
        }
    )
    cells.loc[:3, "needs_review"] = True
    table = share_by_position(cells, (400, 600))
    assert len(table) == 6 * 2
    rows = table[table["class"] == "monocyte"].set_index("place")
    assert (rows["p_holm"] < 0.01).all()
    assert rows.loc["row 1, column 3", "percent"] > 30 > rows.loc["row 1, column 1", "percent"]
    assert table.drop_duplicates("place")["leukocytes"].sum() == n - 4
    fields = share_by_position(cells.assign(field=rng.choice(["a", "b", "c"], n)))
    assert sorted(set(fields["place"])) == ["a", "b", "c"] and (fields["p_holm"] > 0.01).all()
    assert len(share_by_position(cells.iloc[:0])) == 0
    with pytest.raises(ArgumentError, match="no parts"):
        share_by_position(cells, grid=(0, 3))


def said(truth: np.ndarray, rates: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Cells as a classifier with these errors would call them."""
    predicted = [CLASSES[rng.choice(len(CLASSES), p=rates[cell])] for cell in truth]
    probabilities = {f"prob_{name}": 0.125 for name in CLASSES}
    return pd.DataFrame({"slide_id": "s", "predicted_class": predicted, **probabilities})


def test_the_corrected_shares_are_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(3)
    shares = np.array([0.5, 0.04, 0.01, 0.3, 0.08, 0.02, 0.03, 0.02])
    rates = np.full((8, 8), 0.03) + np.eye(8) * 0.76
    matrix = np.stack([rng.multinomial(400, row) for row in rates])
    hit, plain_off, off = [], [], []
    for turn in range(20):
        truth = rng.choice(8, size=400, p=shares)
        table = corrected_differential(said(truth, rates, rng), matrix, CLASSES, n_boot=300, seed=turn)
        real = np.array([shares[CLASSES.index(name)] for name in table["class"]])
        real = 100 * real / real.sum()
        hit.append((table["ci95_low"] <= real) & (real <= table["ci95_high"]))
        off.append(np.abs(table["corrected_percent"] - real))
        plain_off.append(np.abs(table["predicted_percent"] - real))
    assert np.mean(off) < 0.6 * np.mean(plain_off)
    assert np.mean(hit) > 0.88, "95 % limits"
    assert table["corrected_percent"].sum() == pytest.approx(100)
    assert (table["corrected_percent"] >= 0).all()


def test_a_classifier_without_errors_is_not_corrected() -> None:
    cells = make_result(shape=(400, 400), every=1).cells
    table = corrected_differential(cells, np.eye(8) * 1_000_000, CLASSES, n_boot=50)
    assert table["corrected_percent"].to_numpy() == pytest.approx(table["predicted_percent"], abs=1e-3)
    assert "erythroblast" not in set(table["class"])
    none = corrected_differential(cells.iloc[:0], np.eye(8), CLASSES, n_boot=50)
    assert none["corrected_percent"].isna().all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=8, max_size=8), st.integers(0, 10**6))
def test_shares_stay_within_the_simplex(numbers: list[int], seed: int) -> None:
    rates = np.random.default_rng(seed).dirichlet(np.full(8, 0.2), 8)
    shares = true_shares(np.array([numbers], float), rates[None])
    assert (shares >= 0).all() and np.isfinite(shares).all()
    if sum(numbers) and (rates[:, np.array(numbers) > 0] > 1e-9).any():
        assert shares.sum() == pytest.approx(1)


def test_a_matrix_that_does_not_fit_is_refused() -> None:
    cells = make_result().cells
    with pytest.raises(InputError, match="8 x 8"):
        corrected_differential(cells, np.eye(3), CLASSES)
    with pytest.raises(InputError, match="has no neutrophil"):
        corrected_differential(cells, np.diag([0, 1, 1, 1, 1, 1, 1, 1]), CLASSES)


def test_the_corrected_shares_are_an_export_from_the_models_card(tmp_path: Path) -> None:
    from dataclasses import replace

    from napari_leukocls.models.card import make_card
    from napari_leukocls.models.install import write_model
    from napari_leukocls.models.registry import find_model

    made = make_result(shape=(400, 400), every=1)
    sha = find_model("default").card()["weights_sha256"]
    mine = replace(made, run=made.run | {"classifier": {"name": "default", "sha256": sha}})
    (path,) = write_exports(mine, tmp_path, ["corrected"])
    table = pd.read_csv(path)
    assert table["corrected_percent"].sum() == pytest.approx(100, abs=0.01)
    assert (
        (table["ci95_low"] <= table["corrected_percent"]) & (table["corrected_percent"] <= table["ci95_high"])
    ).all()
    with pytest.raises(LeukoclsError, match="another one than the result's"):
        write_exports(made, tmp_path, ["corrected"])
    write_model(tmp_path / "untested", make_card(card_values("untested"), "untested"), {})
    with pytest.raises(LeukoclsError, match="no confusion matrix"):
        card_matrix({"name": str(tmp_path / "untested")})
