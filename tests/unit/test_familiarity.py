"""The test of a slide's stain and camera, and the temperature that grows with the unknown score."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from napari_leukocls.api import analyze
from napari_leukocls.batch import run_batch
from napari_leukocls.batch.run_familiarity import run_warnings
from napari_leukocls.classification import familiarity, ood
from napari_leukocls.classification.familiarity import SlideDifference
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.config import make_config
from napari_leukocls.io.inputs import expand_inputs, group_as_slide
from napari_leukocls.models.card_parts import Softening
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import drain
from tests.unfamiliar import known_crops, write_unfamiliar

RANDOM = np.random.default_rng(0)
#: Means of the statistics of three classes, and what another camera adds to all.
CLASSES, CAMERA = RANDOM.normal(0, 3, (3, 30)), RANDOM.normal(0, 1, 30)


def cells(shares, count, seed, camera=0.0):
    """Statistics of layers and probabilities of cells, with a mix of classes."""
    random = np.random.default_rng(seed)
    kind = random.choice(3, count, p=shares)
    layers = CLASSES[kind] + random.normal(0, 1, (count, 30)) + camera * CAMERA
    return layers, np.eye(3)[kind]


@pytest.fixture(scope="module")
def tensors():
    layers, shares = cells([0.4, 0.3, 0.3], 900, 1)
    slides = np.arange(900) % 3
    return familiarity.fit(layers, shares, slides, np.full(900, "home"))


def away(tensors, shares, count, seed, camera=0.0):
    found = familiarity.differences(*cells(shares, count, seed, camera), tensors)
    return familiarity.distance(SlideDifference.of(found), tensors)


@given(
    st.lists(st.integers(0, 20), min_size=3, max_size=3).filter(any),
    st.integers(20, 80),
    st.integers(2, 10**6),
)
def test_another_camera_is_farther_than_another_mix_of_classes(tensors, parts, count, seed):
    shares = np.array(parts) / sum(parts)
    assert away(tensors, shares, count, seed) < 1.6 < away(tensors, shares, count, seed, camera=1.5)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_fields_together_are_what_the_slide_is(tensors, sizes):
    found = familiarity.differences(*cells([0.2, 0.3, 0.5], sum(sizes), 5), tensors)
    parts = np.split(found, np.cumsum(sizes)[:-1])
    joined = SlideDifference.joined([SlideDifference(), *(SlideDifference.of(part) for part in parts)])
    assert joined.cells == sum(sizes)
    np.testing.assert_allclose(joined.mean, found.mean(axis=0), atol=1e-6)


def test_without_reference_or_cells_there_is_no_distance(tensors):
    layers, shares = cells([1, 0, 0], 4, 0)
    assert familiarity.differences(layers, shares, {}).shape == (4, 0)
    assert np.isnan(familiarity.distance(SlideDifference.of(np.zeros((0, 24))), tensors))
    assert SlideDifference.of(None) == SlideDifference() == SlideDifference.read(None)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.floats(-5, 5),
    st.floats(0.01, 50),
    st.floats(1, 20),
)
def test_the_temperature_only_grows_with_the_score(scores, start, width, most):
    ramp = Softening(start=start, end=start + width, most=most)
    factor = ood.softening_factor(np.sort(scores), ramp)
    assert (np.diff(factor) >= 0).all() and factor.min() >= 1 and factor.max() <= most
    assert (ood.softening_factor(np.array(scores), None) == 1).all()


def test_a_card_whose_ramp_falls_is_refused():
    with pytest.raises(ValidationError, match="not below"):
        Softening(start=2, end=1, most=2)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    ramp = {"start": -1e3, "end": -999, "most": 3.0}
    return write_unfamiliar(tmp_path_factory.mktemp("models"), softening=ramp)


def test_what_is_written_into_a_model_decides_how_it_predicts(stranger):
    soft = load_classifier(stranger, "cpu")
    plain = load_classifier(stranger, "cpu")
    plain.card = soft.card.model_copy(update={"softening": None})
    crops = known_crops(soft, 6)
    softer, before = soft.predict(crops), plain.predict(crops)
    assert (softer.probabilities.argmax(1) == before.probabilities.argmax(1)).all()
    assert (softer.probabilities.max(1) < before.probabilities.max(1)).all()
    np.testing.assert_array_equal(softer.ood_score, before.ood_score)
    # The unsoftened probabilities of an evaluation are those of the logits.
    outputs = drain(soft.look(crops))
    assert (soft.conclude(outputs, temperature=1.0).probabilities.max(1) >= before.probabilities.max(1)).all()
    # The known crops are known; a flat grey is not.
    slide = SlideDifference.of(softer.differences)
    grey = SlideDifference.of(soft.predict(np.full_like(crops, 90)).differences)
    assert familiarity.distance(slide, soft.ood_tensors) < 2 < familiarity.distance(grey, soft.ood_tensors)


def test_a_model_without_reference_predicts_as_before():
    classifier = load_classifier(Path(__file__).parents[2] / "models" / "accurate", "cpu")
    classifier.card = classifier.card.model_copy(update={"familiarity": None})
    tensors = classifier.ood_tensors.items()
    classifier.ood_tensors = {name: value for name, value in tensors if not name.startswith("slide_")}
    predictions = classifier.predict(known_crops(classifier, 2))
    assert predictions.differences is not None and predictions.differences.shape[1] == 0


@pytest.fixture
def fields(tmp_path):
    """Two fields with a few leukocytes each."""
    whole = Image.open(sample_smear())
    folder = tmp_path / "fields"
    folder.mkdir()
    for name, x in (("a", 0), ("b", 480)):
        whole.crop((x, 0, x + 480, 420)).save(folder / f"{name}.png")
    return folder


def test_a_field_is_warned_of_and_the_record_says_why(stranger, fields):
    result = analyze(fields / "a.png", classifier=str(stranger))
    warning = next(one for one in result.warnings if "unlike what the model" in one)
    assert "leukocls adapt" in warning and "Train dock" in warning and "\n" not in warning
    record = result.run["familiarity"]
    assert record["distance"] >= record["limit"] == 2.0 and record["cells"] >= 1


def test_fields_that_are_too_small_alone_are_tested_together(stranger, fields, tmp_path):
    card = json.loads((stranger / "model.json").read_text())
    cells_of_both = 0
    slides = expand_inputs([fields])
    for slide in slides:
        cells_of_both += analyze(slide.fields[0], classifier=str(stranger)).run["familiarity"]["cells"]
    card["familiarity"]["least_cells"] = cells_of_both
    strict = tmp_path / "models" / "stranger"
    strict.mkdir(parents=True)
    (strict / "model.json").write_text(json.dumps(card))
    (strict / "weights.safetensors").write_bytes((stranger / "weights.safetensors").read_bytes())
    config = make_config(classifier=str(strict))
    outcomes = run_batch(slides, tmp_path / "out", config)
    assert len(run_warnings(outcomes)) == 1 and all(len(one.warnings) >= 1 for one in outcomes)
    alone = json.loads((tmp_path / "out" / "a" / "run.json").read_text())["warnings"]
    assert not any("unlike what the model" in line for line in alone)
    # As one slide, the slide has the warning, and its fields do not repeat it.
    joint = replace(group_as_slide(slides, "both"))
    (outcome,) = run_batch([joint], tmp_path / "joint", config)
    assert sum("unlike what the model" in one for one in outcome.warnings) == 1
    record = json.loads((tmp_path / "joint" / "both" / "run.json").read_text())
    assert record["familiarity"]["cells"] == cells_of_both and len(record["warnings"]) >= 1
    assert "unlike what the model" in (tmp_path / "joint" / "both" / "report.html").read_text(
        encoding="utf-8"
    )


def test_the_command_line_says_it_once_for_a_run(stranger, fields, tmp_path):
    words = ["analyze", str(fields), "--out", str(tmp_path / "out"), "--classifier", str(stranger)]
    done = subprocess.run(
        [sys.executable, "-m", "napari_leukocls", *words], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0
    warned = [line for line in done.stderr.splitlines() if "unlike what the model stranger" in line]
    assert len(warned) == 2 and all(line.startswith("leukocls: ") for line in warned)
