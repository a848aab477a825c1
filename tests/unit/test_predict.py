"""What a classifier and a segmenter say together, and the second look at unsure cells."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from napari_leukocls.classification.classifier import join_kinds
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.types import Predictions


@pytest.fixture(scope="module")
def default():
    return load_classifier(find_model("default").path, "cpu")


@pytest.fixture(scope="module")
def crops(default) -> np.ndarray:
    side = default.card.crop.side_px
    return np.random.default_rng(0).integers(0, 256, (5, side, side, 3), dtype=np.uint8)


def _predictions(*rows: tuple[float, float]) -> Predictions:
    return Predictions(("monocyte", "platelet"), np.array(rows, np.float32), np.zeros(len(rows)), 1.0)


def test_class_map_tips_a_doubtful_platelet_but_not_a_sure_one():
    kinds = np.array([[0.0, 0.99, 0.01], [0.0, 0.99, 0.01]])
    joined = join_kinds(_predictions((0.4, 0.6), (0.001, 0.999)), kinds)
    assert joined.probabilities.argmax(axis=1).tolist() == [0, 1]
    np.testing.assert_allclose(joined.probabilities.sum(axis=1), 1, rtol=1e-5)


def test_a_cell_without_kind_keeps_its_probabilities():
    joined = join_kinds(_predictions((0.4, 0.6)), np.zeros((1, 3)))
    np.testing.assert_allclose(joined.probabilities, [[0.4, 0.6]], rtol=1e-5)


def test_same_answer_in_batches_and_one_by_one(default, crops):
    together = default.predict(crops, batch_size=3)
    alone = np.concatenate([default.predict(crop[None]).probabilities for crop in crops])
    np.testing.assert_allclose(together.probabilities, alone, atol=1e-4)


def test_the_number_of_threads_changes_no_bit(default, crops):
    before, logits = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            logits.append(drain(default.outputs(crops.repeat(4, axis=0)))[0])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])


def test_unsure_cell_is_judged_alike_when_mirrored(default, crops):
    doubting = copy.copy(default)
    doubting.opinion = None
    doubting.card = default.card.model_copy(update={"second_look": 1.01})
    upright = doubting.predict(crops).probabilities
    mirrored = doubting.predict(np.ascontiguousarray(crops[:, :, ::-1])).probabilities
    np.testing.assert_allclose(upright, mirrored, atol=1e-3)


def test_noise_is_unlike_the_training_data(default, crops):
    predictions = default.predict(crops)
    assert (predictions.ood_score >= predictions.ood_threshold).all()
