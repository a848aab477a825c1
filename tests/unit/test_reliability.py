"""Calibration class by class, separation of classes, kinds of errors: against published values and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import expit, logit
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from napari_leukocls.evaluation import calibration, curves, reliability, separation
from napari_leukocls.evaluation.figures import rendered

CLASSES = ("neutrophil", "lymphocyte", "monocyte", "blast")


def drawn(n: int = 4000, seed: int = 0, sharper: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right by construction, and whether the class is true; `sharper` spoils them."""
    random = np.random.default_rng(seed)
    honest = random.beta(0.7, 0.7, n)
    return expit(sharper * logit(np.clip(honest, 1e-6, 1 - 1e-6))), random.random(n) < honest


def several(n: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 4, n)
    logits = random.normal(0, 1, (n, 4))
    logits[np.arange(n), truth] += 2
    powers = np.exp(logits)
    return powers / powers.sum(axis=1, keepdims=True), truth


def test_the_curve_of_a_class_is_that_of_scikit_learn() -> None:
    probability, is_class = drawn()
    observed, predicted = calibration_curve(is_class, probability, n_bins=15)
    curve = reliability.class_curve(probability, is_class)
    filled = curve[curve["n"] > 0]
    np.testing.assert_allclose(filled["predicted"], predicted)
    np.testing.assert_allclose(filled["observed"], observed)
    expected = (np.abs(observed - predicted) * filled["n"]).sum() / len(is_class)
    assert reliability.class_ece(curve) == pytest.approx(expected)


def test_kl_is_the_mean_of_scipys_entropy() -> None:
    probability, is_class = drawn(sharper=2)
    curve = reliability.class_curve(probability, is_class)
    expected = sum(
        row.n * stats.entropy([row.observed, 1 - row.observed], [row.predicted, 1 - row.predicted])
        for row in curve.itertuples()
    ) / len(is_class)
    assert reliability.class_kl(curve) == pytest.approx(expected)
    assert expected > 10 * reliability.class_kl(reliability.class_curve(*drawn()))


@pytest.mark.parametrize("spoilt", [0.5, 1.0, 2.0])
def test_the_temperature_of_a_class_is_the_slope_of_a_logistic_regression(spoilt: float) -> None:
    """Cox's recalibration without an intercept: its slope is 1 over the temperature."""
    probability, is_class = drawn(sharper=spoilt)
    model = LogisticRegression(C=np.inf, fit_intercept=False)
    model.fit(logit(np.clip(probability, 1e-7, 1 - 1e-7))[:, None], is_class)
    found = reliability.class_temperature(probability, is_class)
    assert found == pytest.approx(1 / model.coef_[0, 0], rel=1e-3)
    assert found == pytest.approx(spoilt, rel=0.15)
    cooled = reliability.at_class_temperature(probability, found)
    assert reference.log_loss(is_class, cooled) <= reference.log_loss(is_class, probability) + 1e-9


def test_the_calibration_index_finds_a_known_gap() -> None:
    random = np.random.default_rng(1)
    honest = random.uniform(0.2, 0.7, 20_000)
    is_class = random.random(20_000) < honest
    assert reliability.calibration_index(honest, is_class) < 0.02
    assert reliability.calibration_index(honest + 0.1, is_class) == pytest.approx(0.1, abs=0.02)
    assert reliability.calibration_index(np.full(100, 0.3), np.arange(100) < 50) == pytest.approx(0.2)


def test_sharpness_goes_from_none_to_sure() -> None:
    assert reliability.sharpness(np.full((3, 4), 0.25)) == pytest.approx(0)
    assert reliability.sharpness(np.eye(4)) == pytest.approx(1)
    probabilities, _ = several()
    expected = 1 - np.mean([stats.entropy(row, base=4) for row in probabilities])
    assert reliability.sharpness(probabilities) == pytest.approx(expected)


def test_log_loss_is_scikit_learns() -> None:
    probabilities, truth = several()
    assert calibration.log_loss(probabilities, truth) == pytest.approx(
        reference.log_loss(truth, probabilities)
    )


def test_the_partial_area_is_scikit_learns_before_mcclish() -> None:
    score, is_class = drawn()
    standard = reference.roc_auc_score(is_class, score, max_fpr=0.1)
    least, most = 0.5 * 0.1**2, 0.1
    area = (2 * standard - 1) * (most - least) + least  # McClish's correction taken back
    assert separation.partial_auc(is_class, score) == pytest.approx(area / 0.1)
    assert separation.partial_auc(is_class, is_class.astype(float)) == pytest.approx(1)


def test_recall_at_a_false_positive_rate() -> None:
    is_class = np.r_[np.ones(100, bool), np.zeros(100, bool)]
    score = np.r_[np.linspace(0.5, 1, 100), np.linspace(0, 0.6, 100)]
    for rate in (0.0, 0.01, 0.05):
        allowed = int(rate * 100)
        limit = np.sort(score[100:])[::-1][allowed]
        assert separation.recall_at(is_class, score, rate) == pytest.approx((score[:100] > limit).mean())
    assert np.isnan(separation.recall_at(np.ones(5, bool), np.ones(5), 0.01))


def test_divergence_of_scores() -> None:
    is_class = np.arange(200) < 100
    assert separation.score_divergence(is_class, is_class.astype(float)) == pytest.approx(1)
    assert separation.score_divergence(is_class, np.tile(np.linspace(0, 1, 100), 2)) == pytest.approx(0)
    score, true = drawn()
    own, other = (np.histogram(score[rows], 20, (0, 1))[0] for rows in (true, ~true))
    own, other = own / own.sum(), other / other.sum()
    middle = (own + other) / 2
    expected = (stats.entropy(own, middle, base=2) + stats.entropy(other, middle, base=2)) / 2
    assert separation.score_divergence(true, score) == pytest.approx(expected)


def test_the_best_threshold_is_the_one_that_a_search_finds() -> None:
    score, is_class = drawn(500)
    found = separation.precision_figures(is_class, score)
    f1 = {limit: reference.f1_score(is_class, score >= limit) for limit in score}
    assert f1[found["best_f1_threshold"]] == pytest.approx(max(f1.values()))
    at = [
        reference.precision_score(is_class, score >= x) for x in score if (score >= x)[is_class].mean() >= 0.9
    ]
    assert found["precision_at_recall"] == pytest.approx(max(at))
    # As many are called as there are: precision is recall.
    limit = np.sort(score)[::-1][is_class.sum() - 1]
    assert found["break_even"] == pytest.approx(reference.precision_score(is_class, score >= limit))
    assert found["break_even"] == pytest.approx(reference.recall_score(is_class, score >= limit))


def test_errors_as_the_second_paper_counts_them() -> None:
    """Its classes 3 and 5: 8 and 4 mistaken for each other, which it gives as 12 of 909 crops, 1.32 %."""
    truth = np.r_[np.full(602, 3), np.full(307, 5)]
    guess = np.r_[np.full(594, 3), np.full(8, 5), np.full(303, 5), np.full(4, 3)]
    probabilities = np.full((909, 8), 0.02)
    probabilities[np.arange(909), guess] = 0.86
    found = separation.error_figures(probabilities, truth)
    assert found["n"] == 12 and round(100 * found["n"] / len(truth), 2) == 1.32
    assert found["entropy"] == pytest.approx(stats.entropy([8, 4])) and found["concentration"] == 1
    assert [found["confidence_right"], found["confidence_wrong"]] == pytest.approx([0.86, 0.86])
    none = separation.error_figures(np.eye(3), np.arange(3))
    assert none["n"] == 0 and np.isnan(none["entropy"]) and none["confidence_right"] == 1
    spread = separation.error_figures(np.roll(np.eye(4), 1, 0), np.arange(4))
    assert spread["concentration"] == 0.75 and spread["entropy"] == pytest.approx(np.log(4))


def test_pooled_curves_pass_through_those_of_scikit_learn() -> None:
    probabilities, truth = several()
    found = curves.pooled_curves(probabilities, truth)
    wrong, right, _ = reference.roc_curve(np.eye(4)[truth].ravel(), probabilities.ravel())
    x, middle, low, high = found["roc"]
    np.testing.assert_allclose(middle, np.interp(x, wrong, right), atol=1e-6)
    assert (low <= middle + 0.02).all() and (high >= middle - 0.02).all()
    assert 0.003 < (high - low)[20] < 0.1


def test_figures_are_drawn() -> None:
    probabilities, truth = several()
    per_class = {
        name: {"brier": 0.1, **reliability.class_reliability(probabilities[:, i], truth == i)}
        for i, name in enumerate(CLASSES)
    }
    rows = [
        {
            "epoch": n,
            "loss": 1 / n,
            "val_loss": 1 / n,
            "accuracy": 0.5,
            "val_accuracy": 0.5,
            "val_macro_f1": 0.5,
        }
        | {"lr": 1e-3, "best": n == 2}
        for n in (1, 2, 3)
    ]
    figures = [
        curves.class_reliability_figure(probabilities, truth, CLASSES, per_class),
        curves.pooled_curves_figure(probabilities, truth),
        curves.overlaid_roc_figure({"one": (probabilities, truth), "_two$": (probabilities, truth)}),
        curves.history_figure(rows, "net"),
    ]
    assert all(rendered(figure, "png")[:4] == b"\x89PNG" for figure in figures)
    assert [axes.get_title().split("\n")[0] for axes in figures[0].axes] == list(CLASSES)
