"""Calibration errors on cases worked by hand, and the temperature that was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation.calibration import (
    adaptive_ece,
    at_temperature,
    bins_of,
    brier,
    brier_parts,
    classwise_brier,
    ece,
    fit_isotonic,
    fit_temperature,
    mce,
    recalibration,
    reliability_table,
)


def two_classes(confidence: np.ndarray) -> np.ndarray:
    return np.stack([confidence, 1 - confidence], axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_ece_and_mce_of_a_case_worked_by_hand() -> None:
    """Ten at 0.9 of which eight are right (a gap of 0.1), thirty at 0.6 of which three are (0.5)."""
    probabilities = two_classes(np.repeat([0.9, 0.6], [10, 30]))
    truth = np.array([0] * 8 + [1] * 2 + [0] * 3 + [1] * 27)
    assert ece(probabilities, truth) == pytest.approx((10 * 0.1 + 30 * 0.5) / 40)
    assert mce(probabilities, truth) == pytest.approx(0.5)
    table = reliability_table(probabilities, truth)
    filled = table[table["n"] > 0]
    assert list(filled["n"]) == [30, 10]
    assert list(filled["accuracy"]) == pytest.approx([0.1, 0.8])
    assert list(filled["confidence"]) == pytest.approx([0.6, 0.9])
    assert table["n"].sum() == 40


def test_bins_are_closed_above_and_hold_every_confidence() -> None:
    assert list(bins_of(np.array([0.0, 1 / 15, 0.0667, 0.5, 1.0]))) == [0, 0, 1, 7, 14]


def test_adaptive_bins_hold_equal_numbers() -> None:
    """Four crops in two bins: (0.6, 0.7) with one right, (0.8, 0.9) with both."""
    probabilities = two_classes(np.array([0.9, 0.6, 0.8, 0.7]))
    truth = np.array([0, 1, 0, 0])
    assert adaptive_ece(probabilities, truth, n_bins=2) == pytest.approx((abs(1.3 - 1) + abs(1.7 - 2)) / 4)


def test_brier_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import brier_score_loss

    rng = np.random.default_rng(0)
    probabilities, truth = rng.dirichlet(np.ones(5), 200), rng.integers(0, 5, 200)
    expected = brier_score_loss(truth, probabilities, labels=np.arange(5), scale_by_half=False)
    assert brier(probabilities, truth) == pytest.approx(expected)
    assert brier(np.array([[0.0, 1.0]]), np.array([0])) == 2


def test_a_perfect_and_an_empty_set() -> None:
    assert ece(np.eye(3), np.arange(3)) == mce(np.eye(3), np.arange(3)) == brier(np.eye(3), np.arange(3)) == 0
    assert np.isnan(ece(np.empty((0, 3)), np.empty(0, int)))


@given(st.floats(0.3, 4))
def test_the_temperature_that_was_put_in_comes_out(temperature: float) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (4000, 6))
    chances = np.cumsum(softmax(logits), axis=1)
    truth = np.minimum((rng.random((4000, 1)) > chances).sum(axis=1), 5)
    found = fit_temperature(logits * temperature, truth)
    assert found == pytest.approx(temperature, rel=0.08)


def test_scaling_lowers_the_calibration_error_and_keeps_the_classes() -> None:
    rng = np.random.default_rng(2)
    truth = rng.integers(0, 4, 2000)
    logits = rng.normal(0, 1, (2000, 4))
    logits[np.arange(2000), truth] += 2
    logits *= 5
    scaled = softmax(logits / fit_temperature(logits, truth))
    assert ece(scaled, truth) < 0.03 < ece(softmax(logits), truth)
    assert np.array_equal(scaled.argmax(axis=1), logits.argmax(axis=1))


def test_a_temperature_needs_something_to_fit_on() -> None:
    for logits in (np.empty((0, 3)), np.array([[np.inf, 0, 0]])):
        with pytest.raises(ArgumentError, match="finite logits"):
            fit_temperature(logits, np.zeros(len(logits), int))


def parts_by_hand(probabilities: np.ndarray, truth: np.ndarray, n_bins: int) -> dict[str, float]:
    """Murphy's three terms and Stephenson's two, loop by loop."""
    found = dict.fromkeys(("reliability", "resolution", "uncertainty", "within_bin"), 0.0)
    n = len(truth)
    for k in range(probabilities.shape[1]):
        said, came = probabilities[:, k], (truth == k).astype(float)
        bins = bins_of(said, n_bins)
        found["uncertainty"] += came.mean() * (1 - came.mean())
        for number in set(bins):
            mine = bins == number
            share, p, y = mine.sum() / n, said[mine].mean(), came[mine].mean()
            found["reliability"] += share * (p - y) ** 2
            found["resolution"] += share * (y - came.mean()) ** 2
            variance = ((said[mine] - p) ** 2).sum() / n
            covariance = ((said[mine] - p) * (came[mine] - y)).sum() / n
            found["within_bin"] += variance - 2 * covariance
    return found


def test_the_parts_of_brier_are_those_of_murphy_and_stephenson() -> None:
    rng = np.random.default_rng(3)
    probabilities, truth = rng.dirichlet(np.ones(4), 300), rng.integers(0, 4, 300)
    found = brier_parts(probabilities, truth, 10)
    assert found == pytest.approx(parts_by_hand(probabilities, truth, 10))
    total = found["reliability"] - found["resolution"] + found["uncertainty"] + found["within_bin"]
    assert total == pytest.approx(brier(probabilities, truth))


def test_a_forecast_of_few_values_has_nothing_within_bins() -> None:
    """Murphy's case: ten at 0.8 of which seven come true, ten at 0.3 of which four do."""
    probabilities = two_classes(np.repeat([0.8, 0.3], 10))
    truth = np.array([0] * 7 + [1] * 3 + [0] * 4 + [1] * 6)
    found = brier_parts(probabilities, truth, 10)
    assert found["reliability"] == pytest.approx(2 * 0.01)
    assert found["resolution"] == pytest.approx(2 * 0.15**2)
    assert found["uncertainty"] == pytest.approx(2 * 0.55 * 0.45)
    assert found["within_bin"] == pytest.approx(0, abs=1e-12)


def test_brier_of_each_class_adds_up() -> None:
    rng = np.random.default_rng(4)
    probabilities, truth = rng.dirichlet(np.ones(4), 100), rng.integers(0, 3, 100)
    each = classwise_brier(probabilities, truth)
    assert each.sum() == pytest.approx(brier(probabilities, truth))
    assert each[3] == pytest.approx((probabilities[:, 3] ** 2).mean()), "a class that never comes"
    assert np.isnan(classwise_brier(np.empty((0, 3)), np.empty(0, int))).all()


def miscalibrated(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 4, n)
    logits = rng.normal(0, 1, (n, 4))
    logits[np.arange(n), truth] += 2
    return softmax(logits * 4), truth


def test_isotonic_calibrates_and_is_that_of_scikit_learn() -> None:
    from sklearn.isotonic import IsotonicRegression

    fit_on, truth = miscalibrated(3000, 5)
    other, other_truth = miscalibrated(3000, 6)
    fitted = fit_isotonic(fit_on, truth)
    mapped = fitted.apply(other)
    assert ece(mapped, other_truth) < 0.03 < ece(other, other_truth)
    assert mapped.sum(axis=1) == pytest.approx(np.ones(3000))
    two = two_classes(fit_on[:, 0])
    mine = fit_isotonic(two, truth != 0).apply(two)[:, 0]
    reference = IsotonicRegression(y_min=0, y_max=1).fit(two[:, 0], truth == 0).predict(two[:, 0])
    assert mine == pytest.approx(reference, abs=1e-6)
    with pytest.raises(ArgumentError, match="finite probabilities"):
        fit_isotonic(np.full((2, 2), np.nan), np.zeros(2, int))


def test_recalibration_says_what_a_new_fit_would_give() -> None:
    probabilities, truth = miscalibrated(1500, 7)
    found = recalibration(probabilities, truth)
    assert found is not None
    assert found["as_is"]["ece"] == pytest.approx(ece(probabilities, truth))
    assert found["temperature"]["ece"] < 0.5 * found["as_is"]["ece"]
    assert found["temperature"]["brier"] < found["as_is"]["brier"]
    assert found["temperature"]["accuracy"] == found["as_is"]["accuracy"]
    assert recalibration(probabilities[:20], truth[:20]) is None


def test_probabilities_at_another_temperature() -> None:
    logits = np.random.default_rng(8).normal(0, 2, (50, 5))
    assert at_temperature(softmax(logits), 2.5) == pytest.approx(softmax(logits / 2.5))
    assert at_temperature(softmax(logits / 2.5), 1 / 2.5) == pytest.approx(softmax(logits))
