"""The out-of-distribution score tells strange cells also where few crops were trained on."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from napari_leukocls.classification import ood

CENTRES = np.random.default_rng(0).normal(size=(8, 64))


def cells(kinds, each, seed):
    """Features around the centres of some kinds, logits of a layer that knows the first four, and kinds."""
    random = np.random.default_rng(seed)
    kind = np.repeat(kinds, each)
    features = CENTRES[kind] + random.normal(0, 0.6, (len(kind), 64))
    return features, 0.1 * features @ CENTRES[:4].T, kind


@pytest.mark.parametrize(("each", "held"), [(1, 1), (2, 1), (4, 1), (10, 3), (200, 50)])
def test_cells_of_no_known_class_score_higher(each, held):
    known = range(4)
    tensors = ood.fit(*cells(known, each, 1), cells(known, held, 2)[:2])
    same, strange = (ood.score(*cells(k, 50, 3)[:2], tensors) for k in (known, range(4, 8)))
    assert roc_auc_score([0] * 200 + [1] * 200, np.concatenate([same, strange])) > 0.95


def test_one_held_back_cell_does_not_set_the_scale_alone():
    known = range(4)
    tensors = ood.fit(*cells(known, 6, 1), cells([0], 1, 2)[:2])
    assert np.abs(ood.score(*cells(known, 50, 3)[:2], tensors)).max() < 100


def test_models_that_do_not_say_which_neighbour_counts_keep_their_scores():
    known = range(4)
    tensors = ood.fit(*cells(known, 100, 1), cells(known, 50, 2)[:2])
    before = {name: value for name, value in tensors.items() if name != "neighbour"}
    features, logits, _ = cells(range(8), 20, 3)
    assert (ood.score(features, logits, before) == ood.score(features, logits, tensors)).all()
