"""Models are loaded once, again when their files change, and few stay in memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
from cards import card_values

from napari_leukocls import architectures
from napari_leukocls.analysis.engine import KEPT, cached_classifier, check_countable, load_engine
from napari_leukocls.config import make_config
from napari_leukocls.errors import ModelError
from napari_leukocls.models.card import make_card
from napari_leukocls.models.install import write_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny")


def write(folder: Path, temperature: float = 1.0) -> Path:
    """A small classifier with random weights."""
    card = make_card(card_values(folder.name, temperature=temperature), folder.name)
    write_model(folder, card, architectures.create(card.architecture, len(card.classes)).state_dict())
    return folder


def test_engines_of_other_settings_share_their_models(model: Path) -> None:
    first = load_engine(make_config(device="cpu", classifier=str(model)))
    second = load_engine(make_config(device="cpu", classifier=str(model), min_confidence=0.9))
    assert first.classifier is second.classifier and first.compact is second.compact is second.segmenter
    assert (first.config.min_confidence, second.config.min_confidence) == (None, 0.9)
    other = load_engine(make_config(device="cpu", segmenter="threshold", classifier=str(model)))
    assert other.compact is first.compact and other.segmenter is not first.segmenter


def test_a_model_that_was_replaced_takes_the_place_of_the_old_one(model: Path) -> None:
    config = make_config(device="cpu", classifier=str(model))
    old = weakref.ref(load_engine(config).classifier)
    write(model, temperature=3.0)
    assert load_engine(config).classifier.card.temperature == 3.0
    gc.collect()
    assert old() is None
    (model / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match="no readable weights"):
        load_engine(config)


def test_few_models_stay_in_memory(tmp_path: Path) -> None:
    loaded = [
        weakref.ref(cached_classifier(write(tmp_path / f"m{number}"), "cpu")) for number in range(KEPT + 2)
    ]
    gc.collect()
    assert [model() is not None for model in loaded] == [False] * 2 + [True] * KEPT


def test_a_segmenter_is_no_classifier_and_is_refused_before_any_image_is_read() -> None:
    with pytest.raises(ModelError, match="compact is a segmenter, not a classifier"):
        check_countable(make_config(classifier="compact"))
