"""The cards of the bundled models as Hugging Face reads them."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard

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
