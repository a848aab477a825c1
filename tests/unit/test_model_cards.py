"""The cards of the bundled models as Hugging Face reads them."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

from napari_leukocls.models.description import describe
from napari_leukocls.models.registry import find_model
from scripts.documentation.hugging_face import KINDS, card_text
from scripts.documentation.model_cards import cards


@pytest.mark.parametrize("name", list(cards()))
def test_the_fields_of_a_card_are_read_back_by_their_own_library(name: str) -> None:
    card = cards()[name]
    read = ModelCard(card_text(name, card))
    assert read.data.pipeline_tag == KINDS[card["kind"]] and read.data.library_name == "napari-leukocls"
    assert read.data.license in ("cc-by-4.0", "bsd-3-clause") and read.data.model_name == name
    if "test" in card:
        first = read.data.eval_results[0]
        assert first.metric_type == "accuracy"
        assert first.metric_value == pytest.approx(card["test"]["accuracy"], abs=1e-4)
    for heading in ("Model details", "Uses", "Limits", "How to use it", "Training data"):
        assert f"\n## {heading}\n" in read.text
    assert "](../" not in read.text and card["known_limits"][0] in read.text


def test_each_model_is_used_by_the_option_that_takes_it() -> None:
    texts = {name: card_text(name, card) for name, card in cards().items()}
    assert "--classifier default" in texts["default"] and "--segmenter compact" in texts["compact"]
    assert "--red-cell-model red_cells" in texts["red_cells"]


@pytest.mark.parametrize("name", list(cards()))
def test_a_model_is_described_in_words(name: str) -> None:
    said = describe(find_model(name))
    assert {"size", "licence", "intended use", "limits", "trained on"} <= set(said)
    if cards()[name]["kind"] == "classifier":
        first = said["figures (95 % limits in brackets)"][0]
        assert f"accuracy {cards()[name]['test']['accuracy']:.3f} (" in first and "cells" in first
    lines = [line for part in said.values() for line in ([part] if isinstance(part, str) else part)]
    assert not [line for line in lines if set(line) & set("{}") or "None" in line]


def test_what_two_models_do_together_is_said() -> None:
    assert describe(find_model("default"))["second look"].endswith("classified again, by accurate")
    assert "2 x mobilenetv2_100, tf_efficientnet_lite0" in describe(find_model("accurate"))["architecture"]
