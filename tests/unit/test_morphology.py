"""Morphology in words: what the head says, how it is put, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.errors import ModelError
from napari_leukocls.explanation import morphology
from napari_leukocls.models.registry import find_model

EOSINOPHIL = {
    "nucleus_shape": ("segmented-bilobed", 0.95),
    "chromatin_density": ("densely", 0.9),
    "granularity": ("yes", 0.99),
    "granule_type": ("round", 0.97),
    "granule_colour": ("red", 0.98),
    "cytoplasm_vacuole": ("no", 0.99),
}


def test_words_of_a_granulocyte_and_of_a_lymphocyte() -> None:
    assert morphology.words(EOSINOPHIL) == (
        "nucleus: segmented, bilobed; chromatin: dense; granules: round, red; cytoplasm: no vacuoles"
    )
    lymphocyte = {
        "nucleus_shape": ("unsegmented-round", 0.55),
        "granularity": ("no", 0.98),
        "granule_type": ("nil", 0.9),
        "granule_colour": ("nil", 0.9),
    }
    assert morphology.words(lymphocyte) == "nucleus: unsegmented, round?; granules: none"
    assert morphology.words({}) == ""
    assert morphology.words({"smell_of_it": ("faint", 0.9)}) == "smell of it: faint"


def test_the_default_describes_crops_and_only_its_own_weights_are_used(tmp_path: Path) -> None:
    folder = find_model("default").path
    classifier = load_classifier(folder, "cpu")
    head = morphology.find_head(classifier)
    assert head is not None and head.weights_sha256 == classifier.digest and len(head.attributes) == 11
    side = classifier.card.crop.side_px
    crops = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    for row in morphology.describe(classifier, crops):
        assert not row or set(row) == set(head.attributes)
        assert all(value in head.attributes[name] and 0 < p <= 1 for name, (value, p) in row.items())
    assert morphology.describe(classifier, crops[:0]) == []
    for name in (morphology.CARD_NAME, morphology.WEIGHTS_NAME):
        shutil.copy(folder / name, tmp_path)
    card = json.loads((tmp_path / morphology.CARD_NAME).read_text())
    (tmp_path / morphology.CARD_NAME).write_text(json.dumps({**card, "weights_sha256": "other"}))
    assert morphology.find_head(classifier, tmp_path) is None
    assert morphology.describe(classifier, crops, tmp_path) == [{}, {}, {}]


def test_the_head_beats_guessing_on_crops_it_was_not_fitted_on() -> None:
    card = json.loads((find_model("default").path / morphology.CARD_NAME).read_text())
    assert len(card["test"]) == 11
    for name, row in card["test"].items():
        assert row["macro_f1"] > row["majority_macro_f1"] + 0.2, name


@pytest.mark.parametrize("what", [morphology.CARD_NAME, morphology.WEIGHTS_NAME])
def test_a_damaged_head_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    folder = find_model("default").path
    for name in (morphology.CARD_NAME, morphology.WEIGHTS_NAME):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / what).write_bytes(b"{}")
    with pytest.raises(ModelError, match="damaged"):
        morphology.read_head(tmp_path)
    card = json.loads((folder / morphology.CARD_NAME).read_text())
    card["attributes"].pop("cell_size")
    shutil.copy(folder / morphology.WEIGHTS_NAME, tmp_path)
    (tmp_path / morphology.CARD_NAME).write_text(json.dumps(card))
    with pytest.raises(ModelError, match="does not fit"):
        morphology.read_head(tmp_path)


def test_the_ratio_of_nucleus_to_cytoplasm_is_measured_and_no_word_contradicts_it() -> None:
    low = {"nuclear_cytoplasmic_ratio": ("low", 0.8), "granule_type": ("nil", 0.9)}
    # A small lymphocyte, whose nucleus fills nearly all of it, is not called low.
    assert morphology.words(low, 0.82) == "nucleus to cytoplasm: the nucleus fills 82 % of the cell"
    assert morphology.words(low, 0.37) == "nucleus to cytoplasm: low, the nucleus fills 37 % of the cell"
    high = {"nuclear_cytoplasmic_ratio": ("high", 0.6)}
    assert morphology.words(high, 0.74) == "nucleus to cytoplasm: high?, the nucleus fills 74 % of the cell"
    assert morphology.words(high, 0.3) == "nucleus to cytoplasm: the nucleus fills 30 % of the cell"
    # The granules of a basophil hide its nucleus.
    basophil = {"nuclear_cytoplasmic_ratio": ("low", 0.9), "granule_type": ("coarse", 0.9)}
    assert morphology.words(basophil, 0.74).endswith("nucleus to cytoplasm: low")
    assert morphology.words(high) == "nucleus to cytoplasm: high?"
