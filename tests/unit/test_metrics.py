"""Metrics against scikit-learn and cellpose, their intervals, and what an evaluation writes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from napari_leukocls.errors import ArgumentError
from napari_leukocls.evaluation.bootstrap import (
    auroc,
    interval,
    resample_weights,
    weighted_auroc,
    weighted_metrics,
)
from napari_leukocls.evaluation.detection import (
    Found,
    Outlined,
    boxes_f1,
    centres_f1,
    mask_average_precision,
    outlined_boxes,
    outlined_masks,
)
from napari_leukocls.evaluation.metrics import HEADLINE, classification_metrics
from napari_leukocls.evaluation.report import predictions_table, write_evaluation

CLASSES = ("neutrophil", "lymphocyte", "monocyte", "platelet")


def made_up(n: int, seed: int = 0, n_classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Truth (N,) and rounded probabilities (N, C), so that there are ties; right in about four of five."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_classes, n)
    logits = rng.normal(0, 1, (n, n_classes))
    logits[np.arange(n), truth] += 2
    powers = np.exp(logits)
    return truth, np.round(powers / powers.sum(axis=1, keepdims=True), 2)


def names_of(truth: np.ndarray) -> list[str]:
    return [CLASSES[place] for place in truth]


def test_every_metric_is_that_of_scikit_learn() -> None:
    truth, probabilities = made_up(500)
    predicted = probabilities.argmax(axis=1)
    review = probabilities.max(axis=1) < 0.6
    found = classification_metrics(names_of(truth), probabilities, CLASSES, needs_review=review, n_boot=0)
    auc = reference.roc_auc_score(
        truth, probabilities / probabilities.sum(1, keepdims=True), multi_class="ovr"
    )
    expected = {
        "n": 500,
        "accuracy": reference.accuracy_score(truth, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(truth, predicted),
        "macro_f1": reference.f1_score(truth, predicted, average="macro"),
        "mcc": reference.matthews_corrcoef(truth, predicted),
        "kappa": reference.cohen_kappa_score(truth, predicted),
        "nmi": reference.normalized_mutual_info_score(truth, predicted),
        "macro_precision": reference.precision_score(truth, predicted, average="macro"),
        "macro_recall": reference.recall_score(truth, predicted, average="macro"),
        "auc_micro": reference.roc_auc_score(np.eye(4)[truth], probabilities, average="micro"),
        "average_precision_macro": reference.average_precision_score(np.eye(4)[truth], probabilities),
        "average_precision_micro": reference.average_precision_score(
            np.eye(4)[truth], probabilities, average="micro"
        ),
        "review_rate": review.mean(),
        "accuracy_not_reviewed": (predicted == truth)[~review].mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["auc_macro"] == pytest.approx(auc, abs=2e-3), "rows that do not sum to 1 make the difference"
    assert found["confusion_matrix"] == reference.confusion_matrix(truth, predicted).tolist()
    precision, recall, f1, n = reference.precision_recall_fscore_support(truth, predicted)
    mine = found["per_class"]["monocyte"]
    limits = mine.pop("recall_ci95")
    score = probabilities[:, 2]
    # The other figures are tested with the modules that compute them (test_reliability.py).
    basic = ("precision", "recall", "f1", "n", "auc", "average_precision", "brier")
    assert {name: mine[name] for name in basic} == pytest.approx(
        {
            "precision": precision[2],
            "recall": recall[2],
            "f1": f1[2],
            "n": n[2],
            "auc": reference.roc_auc_score(truth == 2, score),
            "average_precision": reference.average_precision_score(truth == 2, score),
            "brier": ((score - (truth == 2)) ** 2).mean(),
        }
    )
    from scipy.stats import binomtest

    hits = int(((predicted == 2) & (truth == 2)).sum())
    assert limits == pytest.approx(list(binomtest(hits, int(n[2])).proportion_ci(method="wilson")))


@pytest.mark.parametrize("n", [7, 300])
def test_the_bootstraps_formulas_are_those_of_the_point_estimates(n: int) -> None:
    truth, probabilities = made_up(n)
    review = probabilities.max(axis=1) < 0.6
    point = classification_metrics(names_of(truth), probabilities, CLASSES, needs_review=review, n_boot=0)
    block = next(resample_weights(n, 3, seed=5))
    for weights in (np.ones((1, n), np.float32), block):
        found = weighted_metrics(truth, probabilities, weights, review)
        for which, drawn in enumerate(weights):
            rows = np.repeat(np.arange(n), drawn.astype(int))
            point = classification_metrics(
                names_of(truth[rows]), probabilities[rows], CLASSES, needs_review=review[rows], n_boot=0
            )
            for name in HEADLINE:
                value = np.nan if point[name] is None else point[name]
                assert found[name][which] == pytest.approx(value, abs=1e-6, nan_ok=True), name


def test_intervals_hold_the_estimate_and_are_the_same_every_time() -> None:
    truth, probabilities = made_up(400)
    review = probabilities.max(axis=1) < 0.6
    first, second = (
        classification_metrics(names_of(truth), probabilities, CLASSES, None, review, 400, seed=3)
        for _ in range(2)
    )
    assert first == second
    for name in (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "mcc",
        "kappa",
        "auc_macro",
        "brier",
        "review_rate",
    ):
        low, high = first[f"{name}_ci95"]
        assert low < first[name] < high, name
    low, high = first["accuracy_ci95"]
    normal = 1.96 * np.sqrt(first["accuracy"] * (1 - first["accuracy"]) / 400)
    assert high - low == pytest.approx(2 * normal, rel=0.2)


def test_perfect_predictions_of_few_crops_are_not_certain() -> None:
    scores = np.eye(2)[[0, 1] * 6]
    found = classification_metrics(["a", "b"] * 6, scores, ["a", "b"], n_boot=50)
    assert found["accuracy"] == 1
    # Clopper and Pearson's lower limit of 12 of 12.
    assert found["accuracy_ci95"] == pytest.approx([0.735, 1.0], abs=0.001)


def test_patients_drawn_whole_widen_the_interval() -> None:
    truth, probabilities = made_up(400)
    patient = np.repeat(np.arange(10), 40)
    probabilities[patient < 3] = np.roll(probabilities[patient < 3], 1, axis=1)
    alone = classification_metrics(names_of(truth), probabilities, CLASSES)
    whole = classification_metrics(names_of(truth), probabilities, CLASSES, groups=patient)
    width = [np.ptp(found["accuracy_ci95"]) for found in (alone, whole)]
    assert width[1] > 2 * width[0]
    assert whole["bootstrap"]["by_group"]
    recalls = [np.ptp(found["per_class"]["monocyte"]["recall_ci95"]) for found in (alone, whole)]
    assert recalls[1] > 1.5 * recalls[0]


def test_unknown_classes_stay_out_of_accuracy_and_are_listed() -> None:
    truth, probabilities = made_up(300)
    names = [*names_of(truth), "blast", "blast", "smudge_cell"]
    more = np.vstack([probabilities, np.tile([0.7, 0.1, 0.1, 0.1], (3, 1))])
    score = np.r_[np.linspace(0, 1, 300), 2.0, 0.5, 3.0]
    review = np.r_[np.zeros(300, bool), True, False, True]
    found = classification_metrics(names, more, CLASSES, score, review, n_boot=0)
    known = classification_metrics(names_of(truth), probabilities, CLASSES, n_boot=0)
    assert found["n"] == 300
    assert found["accuracy"] == known["accuracy"]
    assert found["review_rate"] == 0
    assert found["unknown_classes"]["blast"] == pytest.approx({"n": 2, "review_rate": 0.5, "ood_auroc": 0.75})
    assert found["unknown_classes"]["smudge_cell"] == {"n": 1, "review_rate": 1.0, "ood_auroc": 1.0}
    assert found["ood_auroc"] == pytest.approx(5 / 6)


def test_nothing_known_and_wrong_shapes() -> None:
    found = classification_metrics(["blast"], np.full((1, 4), 0.25), CLASSES, np.array([1.0]))
    assert found["n"] == 0
    assert found["accuracy"] is None
    assert found["accuracy_ci95"] == [None, None]
    assert found["unknown_classes"]["blast"]["ood_auroc"] is None
    json.dumps(found, allow_nan=False)
    one = classification_metrics(["monocyte"], np.array([[0, 0, 1.0, 0]]), CLASSES, n_boot=10)
    assert (one["accuracy"], one["mcc"], one["auc_macro"]) == (1, None, None)
    with pytest.raises(ArgumentError, match="probabilities"):
        classification_metrics(["monocyte"], np.ones((2, 4)), CLASSES)


def test_three_thousand_crops_with_a_thousand_resamples_take_seconds() -> None:
    truth, probabilities = made_up(3000)
    start = time.process_time()
    classification_metrics(names_of(truth), probabilities, CLASSES)
    assert time.process_time() - start < 5


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=30))
def test_auroc_of_a_resample_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    positive, score = (np.array(values) for values in zip(*rows, strict=True))
    high, low = score[positive], score[~positive]
    pairs = (high[:, None] > low) + 0.5 * (high[:, None] == low)
    expected = pairs.mean() if pairs.size else np.nan
    assert auroc(positive, score) == pytest.approx(expected, nan_ok=True)
    assert weighted_auroc(positive, score, np.ones((1, len(rows))))[0] == pytest.approx(expected, nan_ok=True)


def test_the_bootstrap_of_a_mean_agrees_with_theory() -> None:
    values = np.random.default_rng(0).normal(10, 2, 400)
    means = np.concatenate([weights @ values / 400 for weights in resample_weights(400, n_boot=500)])
    low, high = interval(means)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=0.05)
    assert high - low == pytest.approx(2 * 1.96 * 0.1, rel=0.15)


def test_boxes_are_matched_one_to_one() -> None:
    true = [[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]
    pred = [[1, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 34], [80, 80, 90, 90]]
    found = boxes_f1(pred, true)
    assert found == Found(tp=2, fp=2, fn=1)
    assert (found.precision, found.recall, found.f1) == pytest.approx((0.5, 2 / 3, 4 / 7))
    assert boxes_f1(pred, true, iou=0.95) == Found(0, 4, 3)
    assert found + Found(1, 0, 0) == Found(3, 2, 1)


def test_a_greedy_choice_does_not_cost_a_match() -> None:
    """The first box overlaps both truths, the second only one of them."""
    true = [[0, 0, 10, 10], [0, 4, 10, 14]]
    pred = [[0, 1, 10, 11], [0, -2, 10, 8]]
    assert boxes_f1(pred, true, iou=0.5).tp == 2


def test_no_boxes_at_all() -> None:
    assert boxes_f1([], []).f1 == 1
    assert boxes_f1([], [[0, 0, 1, 1]]) == Found(0, 0, 1)
    assert boxes_f1([[0, 0, 0, 0]], [[0, 0, 0, 0]]) == Found(0, 1, 1), "an empty box overlaps nothing"
    assert np.isnan(Found().precision)


def test_centres_are_found_within_masks_or_near_centroids() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[0:10, 0:10] = 4
    labels[20:30, 20:30] = 9
    centres = [[5, 5], [6, 6], [15, 15], [25.4, 24.6], [99, -3]]
    assert centres_f1(labels, centres) == Found(tp=2, fp=0, fn=3)
    assert centres_f1(np.array([[5, 4], [25, 25], [0, 29]]), centres, max_distance=2) == Found(2, 1, 3)
    assert centres_f1(labels, []) == Found(0, 2, 0)
    assert centres_f1(np.empty((0, 2)), centres, max_distance=2) == Found(0, 0, 5)
    with pytest.raises(ArgumentError, match="label image"):
        centres_f1(np.zeros((3, 2)), centres)


def test_mask_average_precision_is_tp_over_all() -> None:
    true = np.zeros((40, 40), np.int32)
    true[0:10, 0:10], true[20:30, 20:30], true[0:10, 20:30] = 1, 2, 7
    pred = np.zeros_like(true)
    pred[0:10, 0:10], pred[20:30, 20:26], pred[32:38, 0:6] = 3, 1, 2
    assert mask_average_precision(pred, true, (0.5, 0.7)) == pytest.approx([2 / 4, 1 / 5])
    assert mask_average_precision(true, true) == pytest.approx([1, 1, 1])
    empty = np.zeros_like(true)
    assert mask_average_precision(empty, true, (0.5,)) == pytest.approx([0])
    assert mask_average_precision(true, empty, (0.5,)) == pytest.approx([0])
    assert mask_average_precision(empty, empty, (0.5,)) == pytest.approx([1])
    full = np.ones_like(true)
    assert mask_average_precision(full, full, (0.5,)) == pytest.approx([1]), "no background at all"
    with pytest.raises(ArgumentError, match="differ in size"):
        mask_average_precision(true, true[1:])


def test_an_evaluation_writes_its_tables_and_figures_the_same_every_time(tmp_path: Path) -> None:
    truth, probabilities = made_up(60)
    names = ["blast", *names_of(truth)[1:]]
    review, score = probabilities.max(axis=1) < 0.6, np.linspace(1, 0, 60)
    files = [f"{place:02d}.png" for place in range(60)][::-1]
    files[0] = "=evil.png"
    table = predictions_table(files, names, probabilities, CLASSES, review, score)
    metrics = classification_metrics(names, probabilities, CLASSES, score, review, n_boot=20, temperature=1.5)
    paths = write_evaluation(tmp_path / "new" / "out", table, metrics)
    before = {name: path.read_bytes() for name, path in paths.items()}
    assert sorted(before) == sorted(path.name for path in (tmp_path / "new" / "out").iterdir())
    assert {"predictions.csv", "metrics.json", "confusion_matrix.png", "reliability.svg"} <= set(before)
    assert before["confusion_matrix.png"].startswith(b"\x89PNG")
    written = pd.read_csv(paths["predictions.csv"])
    assert list(written.columns) == [
        *("file", "class", "predicted_class", "probability"),
        *(f"prob_{name}" for name in CLASSES),
        *("needs_review", "ood_score"),
    ]
    assert "'=evil.png" in set(written["file"])
    assert json.loads(before["metrics.json"]) == metrics
    write_evaluation(tmp_path / "new" / "out", table, metrics)
    assert before == {name: path.read_bytes() for name, path in paths.items()}


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_resamples_draw_as_many_rows_as_there_are(seed: int) -> None:
    weights = np.concatenate(list(resample_weights(17, 50, seed)))
    assert weights.shape == (50, 17)
    assert (weights.sum(axis=1) == 17).all()


def test_a_leukocyte_outlined_as_its_lobes_is_split() -> None:
    true = np.zeros((40, 60), np.int32)
    true[5:25, 5:25], true[5:25, 35:55] = 3, 8
    pred = np.zeros_like(true)
    pred[5:15, 5:25], pred[15:25, 5:15] = 1, 2  # two lobes
    pred[22:25, 22:25] = 5  # a grain of 9 of 400 pixels is no piece
    pred[5:25, 34:55] = 9
    found = outlined_masks(pred, true)
    assert found.pieces.tolist() == [2, 1]
    assert found.split.tolist() == [True, False]
    assert not found.merged.any()
    assert found.iou == pytest.approx([0.5, 400 / 420])
    assert found.outside == pytest.approx([0, 20 / 420]), "half of the cell is not more than half of it"


def test_cells_under_one_outline_are_merged() -> None:
    true = np.zeros((40, 60), np.int32)
    true[5:25, 5:25], true[5:25, 27:37], true[30:38, 5:13] = 1, 2, 3
    pred = np.zeros_like(true)
    pred[5:25, 5:37] = 1
    pred[30:38, 5:45] = 2  # far too large, but no other cell lies in it
    found = outlined_masks(pred, true)
    assert found.merged.tolist() == [True, True, False]
    assert found.split.tolist() == [False, False, False]
    assert found.outside == pytest.approx([40 / 640, 40 / 640, 32 / 40])


def test_cells_that_nobody_found_are_neither_split_nor_merged() -> None:
    true = np.zeros((20, 20), np.int32)
    true[2:8, 2:8] = 1
    nothing = np.zeros_like(true)
    missed = outlined_masks(nothing, true)
    assert (missed.iou.tolist(), missed.split.tolist(), missed.merged.tolist()) == ([0.0], [False], [False])
    assert len(outlined_masks(true, nothing).iou) == 0
    both = missed + outlined_masks(true, true) + Outlined.none()
    assert both.iou.tolist() == [0.0, 1.0]
    assert both.of(np.array([False, True])).iou.tolist() == [1.0]
    assert outlined_boxes([], [[0, 0, 4, 4]]).iou.tolist() == [0.0]
    with pytest.raises(ArgumentError, match="differ in size"):
        outlined_masks(true, true[1:])


def test_boxes_tell_of_splits_and_merges_too() -> None:
    true = [[0, 0, 20, 20], [0, 30, 20, 50], [0, 50, 20, 70]]
    pred = [[0, 0, 10, 20], [11, 0, 20, 18], [0, 30, 20, 70]]
    found = outlined_boxes(pred, true)
    assert found.split.tolist() == [True, False, False]
    assert found.merged.tolist() == [False, True, True]
    assert found.iou == pytest.approx([0.5, 0.5, 0.5])


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_an_outline_is_never_split_and_merged_against_itself(seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 6, (12, 9)).astype(np.int32)
    found = outlined_masks(labels, labels)
    assert (found.iou == 1).all() and (found.pieces == 1).all()
    assert not found.merged.any() and not found.outside.any()
