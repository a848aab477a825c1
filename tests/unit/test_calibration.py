"""Calibration errors on cases worked by hand, and the temperature that was put in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation.calibration import (
    adaptive_ece,
    bins_of,
    brier,
    ece,
    fit_temperature,
    mce,
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
