"""The out-of-distribution score tells strange cells also where few crops were trained on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from napari_leukocls import architectures
from napari_leukocls.classification import ood
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ModelError
from napari_leukocls.models.card import ModelCard, make_card
from napari_leukocls.models.install import write_model
from napari_leukocls.progress import drain
from tests.unit.cards import SIDE, card_values

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


def wide(kinds, each, seed):
    """Features of 512 values, their logits, kinds, and the channel means of an earlier stage."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(8, 512))
    stages = np.random.default_rng(1).normal(size=(8, 40))
    kind = np.repeat(kinds, each)
    features = centres[kind] + random.normal(0, 12, (len(kind), 512))
    stage = stages[kind] + random.normal(0, 0.8, (len(kind), 40))
    return features, 0.02 * features @ centres[:4].T, kind, stage


@pytest.mark.parametrize("held", [10, 60])
def test_with_many_cells_an_earlier_stage_adds_to_what_the_last_one_tells(held):
    features, logits, kind, stage = wide(range(4), 120, 1)
    back = wide(range(4), held, 2)
    known, strange = wide(range(4), 50, 3), wide(range(4, 8), 50, 4)
    area = {}
    for name, more, last in (("both", stage, (back[3],)), ("last", None, ())):
        tensors = ood.fit(features, logits, kind, (back[0], back[1], *last), more)
        assert "residual_scale" in tensors and ("stage_scale" in tensors) == (name == "both")
        given = [(one[0], one[1], tensors, *((one[3],) if last else ())) for one in (known, strange)]
        same, other = (ood.score(*one) for one in given)
        area[name] = roc_auc_score([0] * 200 + [1] * 200, np.concatenate([same, other]))
        assert abs(np.median(same)) < 3
    assert area["both"] > area["last"] > 0.6 and area["both"] > 0.95
    assert "earlier stage" in ood.method(ood.fit(features, logits, kind, (back[0], back[1], back[3]), stage))


def test_a_score_that_needs_an_earlier_stage_is_never_computed_without_it():
    features, logits, kind, stage = wide(range(4), 120, 1)
    tensors = ood.fit(features, logits, kind, (features[:80], logits[:80], stage[:80]), stage)
    with pytest.raises(ModelError, match="layer"):
        ood.score(features, logits, tensors)


def test_the_stage_that_the_card_names_is_in_the_score(tmp_path):
    values = card_values("staged", ood={"layer": "blocks.5", "threshold": 3.0})
    net = architectures.create(values["architecture"], 3).eval()
    seen = []
    net.blocks[5].register_forward_hook(lambda layer, given, output: seen.append(output.mean((2, 3))))
    classifier = Classifier(ModelCard(**values), net, {}, "", "cpu")
    seen.clear()
    crops = np.random.default_rng(0).integers(0, 255, (260, SIDE, SIDE, 3), np.uint8)
    outputs = drain(classifier.look(crops, 64))
    with torch.inference_mode():
        net(classifier.tensor(crops[:4]))
    np.testing.assert_allclose(outputs.stage[:4], seen[-1].numpy(), atol=1e-3)
    classes = outputs.logits.argmax(axis=1)
    back = tuple(part[:60] for part in (outputs.features, outputs.logits, outputs.stage))
    tensors = ood.fit(outputs.features, outputs.logits, classes, back, outputs.stage)
    stored = {f"ood.{name}": torch.from_numpy(value) for name, value in tensors.items()}
    write_model(tmp_path / "staged", make_card(values, "staged"), {**net.state_dict(), **stored})
    found = load_classifier(tmp_path / "staged", "cpu").predict(crops)
    expected = ood.score(outputs.features, outputs.logits, tensors, outputs.stage)
    np.testing.assert_allclose(found.ood_score, expected, atol=0.02)
