"""A model learns a new laboratory from few crops, and keeps what it knew."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from click.testing import CliRunner
from crops_for_training import disc, make_crops, settings, train
from PIL import Image
from scipy.special import softmax

from napari_leukocls.classification import familiarity
from napari_leukocls.classification.loading import load_classifier, second_opinion_folder, verify
from napari_leukocls.cli import cli
from napari_leukocls.errors import ModelError
from napari_leukocls.explanation import cam
from napari_leukocls.io.images import read_image
from napari_leukocls.models.card import read_card
from napari_leukocls.paths import bundled_dir, sample_smear
from napari_leukocls.progress import drain
from napari_leukocls.training.data import has_classes
from napari_leukocls.training.feature_replay import BUDGET, FILE, choose, read_replay, save_replay
from napari_leukocls.training.site_familiarity import with_laboratory
from napari_leukocls.training.site_layer import Layer
from tests.unfamiliar import write_unfamiliar

#: The new laboratory's stain, and a class that the model has never seen.
THEIRS = {"neutrophil": (150, 110, 220), "lymphocyte": (60, 30, 120), "blast": (40, 170, 110)}


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    data = make_crops(folder / "crops", each=30)
    return train(settings(data, folder, epochs=20, lr=1e-2, patience=0, test_share=0.0))[0]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """The bundled model, whose features are the same on every machine, adapted to discs."""
    folder = tmp_path_factory.mktemp("new")
    data = make_crops(folder / "crops", each=15, seed=5, colours=THEIRS)
    return train(settings(data, folder, from_model="default", preset="adapt", feature_views=3))


def discs_of_theirs():
    """Other discs of the new laboratory, 20 a class."""
    random = np.random.default_rng(70)
    discs = [disc(colour, random) for colour in THEIRS.values() for _ in range(20)]
    return np.stack([np.asarray(Image.fromarray(image).resize((128, 128))) for image in discs])


def accuracy(folder):
    """Accuracy on other discs of the new laboratory."""
    classifier = load_classifier(folder, "cpu")
    crops = discs_of_theirs()
    guess = np.array(classifier.classes)[classifier.predict(crops).probabilities.argmax(1)]
    return (guess == np.repeat(list(THEIRS), 20)).mean()


def test_the_new_class_is_learnt_and_the_old_ones_are_kept(adapted):
    folder, events = adapted
    default = bundled_dir("models") / "default"
    assert load_classifier(folder, "cpu").classes == (*load_classifier(default, "cpu").classes, "blast")
    before, after = accuracy(default), accuracy(folder)
    assert before < 0.3 and after > 0.6
    assert events[-1].kind == "finished" and verify(folder)


def test_both_recalls_are_reported(adapted):
    folder, events = adapted
    card = json.loads((folder / "model.json").read_text())
    recall = card["adaptation"]["recall"]
    assert set(recall) == {"old_classes", "this_laboratory", "new_classes"}
    assert recall["old_classes"]["before"] > 0.95 and recall["old_classes"]["after"] > 0.9
    assert recall["this_laboratory"]["after"] > recall["this_laboratory"]["before"] + 0.2
    assert recall["new_classes"]["after"] > 0.4
    assert recall["new_classes"]["before"] is None and recall["new_classes"]["per_class"].keys() == {"blast"}
    assert recall["this_laboratory"]["n"] == 30 and recall["new_classes"]["n"] == 15
    assert card["adaptation"]["new_classes"] == ["blast"]
    assert events[-1].data["adaptation"]["recall"] == recall
    assert card["test"]["touched"].startswith("never")
    assert "cross-validated" in card["split"]["method"]


def test_an_adapted_model_can_be_adapted_again(adapted, tmp_path):
    data = make_crops(tmp_path / "crops", each=4, seed=6, colours={"smudge_cell": (20, 20, 60)})
    folder, _ = train(settings(data, tmp_path, from_model=str(adapted[0]), preset="adapt", feature_views=2))
    assert load_classifier(folder, "cpu").classes[-2:] == ("blast", "smudge_cell")


def test_a_test_part_that_the_table_names_is_measured_and_not_learnt(tmp_path):
    data = make_crops(tmp_path / "crops", each=12, seed=8, colours=THEIRS)
    table = tmp_path / "crops" / "all.csv"
    rows = [f"{name}/{k:03}.png,{name},{'test' if k < 3 else 'train'}" for name in THEIRS for k in range(12)]
    table.write_text("file,class,split\n" + "\n".join(rows) + "\n")
    folder, _ = train(settings(table, tmp_path, from_model="default", preset="adapt", feature_views=2))
    card = json.loads((folder / "model.json").read_text())
    assert card["test"]["n"] == 9 and card["adaptation"]["crops"] == 27
    assert data.is_dir()


def test_a_model_without_stored_features_says_so(old, tmp_path):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(old, bare)
    (bare / FILE).unlink()
    data = make_crops(tmp_path / "crops", each=4, colours=THEIRS)
    with pytest.raises(ModelError, match="keeps no features.*--no-rehearse"):
        train(settings(data, tmp_path / "out", from_model=str(bare), preset="adapt"))


def test_stored_features_belong_to_their_weights_and_stay_small(tmp_path):
    random = np.random.default_rng(0)
    many = random.normal(size=(4000, 1280)).astype(np.float32), random.integers(0, 8, 4000)
    kept = choose(many, (many[0][:900], many[1][:900]))
    assert 0 < kept.check.mean() < 0.5 and set(kept.classes) == set(range(8))
    save_replay(tmp_path / FILE, kept, "abc")
    assert (tmp_path / FILE).stat().st_size < 4_000_000 and BUDGET < 4_000_000
    again = read_replay(tmp_path, "abc", 8)
    np.testing.assert_allclose(again.features, kept.features, atol=2e-3)
    np.testing.assert_array_equal(again.check, kept.check)
    with pytest.raises(ModelError, match="of other weights"):
        read_replay(tmp_path, "def", 8)
    with pytest.raises(ModelError, match="does not have"):
        read_replay(tmp_path, "abc", 3)
    (tmp_path / FILE).write_bytes(b"half")
    with pytest.raises(ModelError, match="damaged"):
        read_replay(tmp_path, "abc", 8)


def test_the_bundled_default_can_be_adapted():
    from napari_leukocls.models.weights import read_weights

    # What is adapted is the model that it asks about unsure cells.
    folder = bundled_dir("models") / "default"
    asked = second_opinion_folder(read_card(folder), folder)
    assert asked == bundled_dir("models") / "accurate"
    _, digest = read_weights(asked)
    replay = read_replay(asked, digest, 8)
    assert set(replay.classes) == set(range(8)) and replay.check.sum() >= 100
    assert (asked / FILE).stat().st_size < 4_000_000


def test_the_model_that_judges_unsure_cells_is_adapted(adapted):
    folder, events = adapted
    said = [event.data["message"] for event in events if event.kind == "log"]
    assert "default asks accurate about cells that it is unsure of: accurate is adapted" in said[0]
    card = read_card(folder)
    assert card.name == folder.name and card.second_opinion is None
    assert card.architecture == read_card(bundled_dir("models") / "accurate").architecture


def test_the_model_in_use_is_kept_and_not_the_one_that_it_asks(tmp_path):
    data = make_crops(tmp_path / "crops", each=1, seed=3, colours={"neutrophil": (170, 90, 200)})
    folder, events = train(
        settings(data, tmp_path / "out", from_model="default", preset="adapt", feature_views=1)
    )
    assert events[-1].kind == "kept" and folder == bundled_dir("models") / "default"
    assert events[-1].data["model"] == str(folder)


def test_what_the_card_says_is_what_the_model_does(adapted):
    folder, events = adapted
    card, classifier = read_card(folder), load_classifier(folder, "cpu")
    assert card.adaptation is not None and card.adaptation.check is not None
    check = card.adaptation.check
    assert check["gain"] >= 0 and check["accuracy_after"] >= check["accuracy_before"]
    assert card.adaptation.crops == 45 and card.adaptation.changed.startswith(("last layer", "biases"))
    crops = discs_of_theirs()
    found = classifier.predict(crops)
    assert found.ood_threshold == card.ood.threshold and np.isfinite(found.ood_score).all()
    review = (found.probabilities.max(axis=1) < card.review_threshold) | (
        found.ood_score >= found.ood_threshold
    )
    truth = np.repeat([classifier.classes.index(name) for name in THEIRS], 20)
    right = found.probabilities.argmax(axis=1) == truth
    # Where the target cannot be reached, all cells go to review, and the card says so.
    kept = right[~review].mean() if (~review).any() else 1.0
    assert kept >= right.mean() and card.validation is not None
    assert abs(review.mean() - card.validation.review_rate) < 0.35
    assert abs(found.probabilities.max(axis=1).mean() - right.mean()) < 0.25
    maps = cam.heatmaps(classifier, crops[:2])
    assert maps.shape == (2, 128, 128) and np.isfinite(maps).all()
    assert card.gradcam == read_card(bundled_dir("models") / "accurate").gradcam
    assert json.loads((folder / "run.json").read_text())["config"]["preset"] == "adapt"
    with (folder / "split.csv").open() as stream:
        assert {row["split"] for row in csv.DictReader(stream)} == {"train"}


def test_a_model_that_does_not_get_better_is_kept(old, tmp_path):
    data = make_crops(tmp_path / "crops", each=1, seed=3, colours={"neutrophil": (170, 90, 200)})
    folder, events = train(settings(data, tmp_path / "out", from_model=str(old), preset="adapt"))
    assert folder == old and events[-1].kind == "kept"
    assert events[-1].data["message"].startswith("the model is kept as it is: ")
    record = json.loads((tmp_path / "out" / "adaptation.json").read_text())
    assert record["kept"] and record["crops"] == 1
    assert not (tmp_path / "out" / "made").exists()


def test_the_command_says_that_the_model_is_kept(old, tmp_path):
    colours = {"neutrophil": (170, 90, 200), "blast": (90, 90, 200)}
    data = make_crops(tmp_path / "crops", each=1, seed=3, colours=colours)
    arguments = ["adapt", str(data), "--from", str(old), "--out", str(tmp_path / "out"), "--device", "cpu"]
    arguments += ["--leave-out", "blast"]
    done = CliRunner().invoke(cli, [*arguments, "--um-per-px", "0.7", "--json"], standalone_mode=False)
    assert done.return_value == 1, done.output
    assert '"status": "kept"' in done.stdout and "the classes of the data" in done.stderr


def test_the_command_adapts_to_images_without_labels(tmp_path):
    smear = read_image(sample_smear()).pixels[:420, :560]
    tinted = np.clip(smear * np.array([0.95, 0.85, 1.0]), 0, 255).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for number, image in enumerate((tinted, tinted[::-1], tinted[:, ::-1], tinted[::-1, ::-1])):
        Image.fromarray(np.ascontiguousarray(image)).save(tmp_path / "images" / f"{number}.png")
    arguments = ["adapt", str(tmp_path / "images"), "--from", "default", "--out", str(tmp_path / "out")]
    arguments += ["--um-per-px", "0.16", "--device", "cpu", "--json"]
    done = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert "the images alone" in done.stderr
    result = json.loads(done.stdout)
    assert result["adaptation"]["images"] == 4 and result["adaptation"]["cells"] >= 20
    default = bundled_dir("models") / "default"
    if result["status"] == "kept":
        assert done.return_value == 1 and result["model"] == str(default)
        return
    assert done.return_value == 0 and "cannot be told" in result["adaptation"]["how"]
    accurate = bundled_dir("models") / "accurate"
    card, before = read_card(tmp_path / "out" / "default-adapt"), read_card(accurate)
    assert card.adaptation is not None and card.adaptation.without_labels
    # Without labels, nothing that decides on review changes.
    assert (card.temperature, card.review_threshold, card.ood) == (
        before.temperature,
        before.review_threshold,
        before.ood,
    )
    new = load_classifier(tmp_path / "out" / "default-adapt", "cpu")
    assert new.classes == tuple(before.classes)
    theirs = load_classifier(accurate, "cpu").ood_tensors
    assert new.ood_tensors.keys() == theirs.keys() and theirs
    assert new.predict(discs_of_theirs()[:4]).probabilities.shape == (4, len(new.classes))


def test_data_with_and_without_classes_is_told_apart(tmp_path):
    crops = make_crops(tmp_path / "crops", each=1)
    assert has_classes(crops) and not has_classes(crops / "neutrophil")
    (tmp_path / "both.csv").write_text("file,class\na.png,neutrophil\n")
    (tmp_path / "files.csv").write_text("file,slide\na.png,1\n")
    assert has_classes(tmp_path / "both.csv") and not has_classes(tmp_path / "files.csv")
    assert not has_classes(crops / "neutrophil" / "000.png")


def test_an_adapted_laboratory_is_known_to_the_test_of_slides(tmp_path):
    model = write_unfamiliar(tmp_path)
    classifier = load_classifier(model, "cpu")
    head = classifier.net.get_classifier()
    weight, bias = (values.detach().double().numpy() for values in (head.weight, head.bias))
    layer = Layer(np.vstack([weight, 0 * weight[:1]]), np.append(bias, -9.0))
    random = np.random.default_rng(0)
    crops = discs_of_theirs()[random.permutation(60)]
    tensors, test = with_laboratory(model, crops[:30], layer, "ours")
    assert test is not None and test["known"] == ["ours"] and test["limit"] == 2.0
    found = drain(classifier.look(crops[30:]))
    away = []
    for known, logits in ((classifier.ood_tensors, found.logits), (tensors, layer.logits(found.features))):
        differences = familiarity.differences(found.layers, softmax(logits, axis=1), known)
        away.append(familiarity.distance(familiarity.SlideDifference.of(differences), known))
    assert away[1] < 2.0 < away[0]
    assert with_laboratory(bundled_dir("models") / "default", crops[:0], layer, "none") == ({}, None)
