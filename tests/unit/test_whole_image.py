"""A model that was trained on whole images is evaluated, compared, explained and used on whole images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from crops_for_training import SIDE, make_crops, save, settings, train

from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.classification.crops import cut_crops, whole_image
from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.classification.single_cell import cut_central, cut_labelled
from napari_leukocls.config import make_config
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.predict import assess
from napari_leukocls.explanation.run import iter_explain
from napari_leukocls.io.images import read_image
from napari_leukocls.models.card import read_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.provenance import SPLIT_NAME
from napari_leukocls.paths import bundled_dir
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.segmentation.registry import compact
from napari_leukocls.training.network import rule_of
from napari_leukocls.types import SmearImage


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crops(tmp_path_factory.mktemp("whole") / "crops", each=14)


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole_model")
    return train(settings(data, out, epochs=4, near_duplicates=False, side_px=64))[0]


def test_the_card_states_the_rule(model: Path) -> None:
    rule = read_card(model).crop
    assert rule.whole_image and rule.margin_um is None and rule.white is None
    assert not rule.side_known, "discs of 32 px show no red cells"


def test_evaluation_measures_what_was_trained(model: Path) -> None:
    """The test part of the split, as the training measured it and as evaluate does."""
    card = read_card(model)
    assert card.test is not None
    _, metrics, _ = drain(assess(str(model), model / SPLIT_NAME, "cpu", None))
    assert metrics["n"] == card.test.n
    assert metrics["accuracy"] == pytest.approx(card.test.accuracy)
    assert metrics["macro_f1"] == pytest.approx(card.test.macro_f1)
    assert "taken whole" in metrics["scale_notes"][0]


def test_the_network_sees_the_resized_image(model: Path, data: Path) -> None:
    rule = read_card(model).crop
    crop = list_crops(data, default_scheme())[0]
    cell = cut_labelled(crop, float("nan"), compact("cpu"), rule)
    np.testing.assert_array_equal(
        cell.crop, cv2.resize(crop.pixels(), (64, 64), interpolation=cv2.INTER_LINEAR)
    )
    assert not cell.found and not cell.mask.any()


def test_explain_takes_the_whole_image(model: Path, data: Path) -> None:
    image = data / "lymphocyte" / "000.png"
    found = drain(iter_explain(str(model), [image], device="cpu"))
    (cell,) = found.cells
    np.testing.assert_array_equal(cell.crop, whole_image(read_image(image).pixels, read_card(model).crop))
    shares = load_classifier(model, "cpu").predict(cell.crop[None]).probabilities[0]
    assert cell.probability == pytest.approx(float(shares.max()), abs=1e-6)


def test_a_field_is_refused_where_the_images_size_is_unknown(model: Path) -> None:
    rule = read_card(model).crop
    with pytest.raises(InputError, match="size of these images on the slide is not known"):
        cut_crops(*_field(), rule)


def _field() -> tuple[Any, ...]:
    pixels = np.random.default_rng(0).integers(0, 255, (80, 90, 3), dtype=np.uint8)
    labels = np.zeros((80, 90), np.int32)
    labels[30:50, 40:62] = 1
    return pixels, labels, np.array([1]), np.array([[30, 40, 50, 62]]), 0.5, (200.0, 210.0, 220.0)


def test_in_a_field_a_square_of_the_known_size_is_cut_without_painting(tmp_path: Path) -> None:
    config = settings(tmp_path, tmp_path / "out", side_um=16.0)
    rule = rule_of(config)
    assert rule.whole_image and rule.side_known and rule.side_um == 16.0
    crop = cut_crops(*_field(), rule)[0]
    # 16 um at 0.5 um a pixel are 32 px, the network's side: the pixels around the middle of the box as they are.
    np.testing.assert_array_equal(crop, _field()[0][24:56, 35:67])


def test_the_middle_of_an_image_can_be_kept() -> None:
    rule = CropRule(20.0, 16, None, None, whole_image=True, central_share=0.5)
    pixels = np.zeros((40, 64, 3), np.uint8)
    pixels[10:30, 16:48] = 255
    assert (whole_image(pixels, rule) == 255).all()
    assert whole_image(pixels[..., 0], rule).shape == (16, 16)


def test_the_size_on_the_slide_is_measured(tmp_path: Path) -> None:
    """Whole images that are cut from a drawn smear of known scale, all of one size."""
    smear = read_image(bundled_dir("sample_data") / "synthetic_teaching_normal.jpg")
    random = np.random.default_rng(0)
    side = 160
    for name in ("lymphocyte", "neutrophil"):
        for number in range(4):
            y, x = (int(random.integers(0, length - side)) for length in smear.pixels.shape[:2])
            save(tmp_path / "crops" / name / f"{number}.png", smear.pixels[y : y + side, x : x + side])
    config = settings(tmp_path / "crops", tmp_path / "out", near_duplicates=False, batch_size=2, epochs=1)
    folder, events = train(config)
    rule = read_card(folder).crop
    assert rule.side_known and rule.side_um == pytest.approx(side * smear.um_per_px, rel=0.15)
    assert any("images show about" in event.data.get("message", "") for event in events)
    field = SmearImage(smear.pixels[:360, :420], "field", "field", smear.um_per_px)
    engine = load_engine(make_config(classifier=str(folder), device="cpu"))
    result = drain(iter_analyze(field, engine, CancelToken()))
    classes = {"lymphocyte", "neutrophil"}
    assert set(result.cells["predicted_class"].dropna()) & classes, "a field can be analysed"


def test_images_of_another_size_on_the_slide_are_cut_to_the_models(tmp_path: Path) -> None:
    rule = CropRule(16.0, 32, None, None, whole_image=True)
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    save(tmp_path / "a.png", image)
    same, larger, unknown = (
        LabelledCrop("a.png", tmp_path / "a.png", "x", um_per_px=size) for size in (0.25, 0.5, None)
    )
    whole = whole_image(image, rule)
    for crop in (same, unknown):
        np.testing.assert_array_equal(cut_labelled(crop, float("nan"), compact("cpu"), rule).crop, whole)
    # 64 px of 0.5 um are 32 um: the middle half is what the model knows.
    np.testing.assert_array_equal(cut_labelled(larger, 0.5, compact("cpu"), rule).crop, image[16:48, 16:48])


def test_a_mask_follows_the_whole_image(model: Path) -> None:
    rule = CropRule(20.0, SIDE, None, None, whole_image=True)
    y, x = np.mgrid[:96, :96]
    pixels = np.full((96, 96, 3), 235, np.uint8)
    pixels[np.hypot(y - 48, x - 48) < 22] = (90, 50, 130)
    cell = cut_central(pixels, 0.25, compact("cpu"), rule)
    assert cell.crop.shape == (SIDE, SIDE, 3)
    if cell.found:
        dark = cell.crop.mean(axis=2) < 150
        assert (dark & cell.mask).sum() > 0.8 * dark.sum()


def test_a_second_training_goes_on_with_whole_images(model: Path, data: Path, tmp_path: Path) -> None:
    folder, _ = train(settings(data, tmp_path, from_model=str(model), epochs=1, ready_crops=False))
    assert read_card(folder).crop.whole_image
    assert json.loads((folder / "model.json").read_text())["crop"]["whole_image"] is True
