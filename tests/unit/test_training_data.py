"""Labelled crops that are not as they should be: each is said in a clear line, and nothing is lost."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from crops_for_training import COLOURS, disc, make_crops, save, settings

from napari_leukocls.classification.dataset import read_dataset
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.io.images import read_image
from napari_leukocls.models.card import read_card
from napari_leukocls.models.crop_rule import CropRule
from napari_leukocls.models.registry import find_model
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.training.crops import CropCache, cut
from napari_leukocls.training.data import gather
from napari_leukocls.training.split import make_split

RULE = CropRule(22.4, 64, None, None)


def finished(work):
    events = []
    return drain(work, events.append), events


def gathered(folder, known=(), **more):
    collection, events = finished(gather(settings(folder, folder / "out", **more), known))
    return collection, [event.data["message"] for event in events if event.kind == "warning"]


@pytest.fixture
def crops(tmp_path):
    return make_crops(tmp_path / "crops", each=8)


def test_good_crops_are_taken_without_a_word(crops):
    collection, warnings = gathered(crops)
    assert len(collection) == 24 and warnings == [] and set(collection.labels) == set(COLOURS)
    assert collection.thumbs.shape == (24, 32, 32, 3) and set(collection.sizes) == {(32, 32)}


def test_a_class_with_one_crop(crops):
    save(crops / "basophil" / "a.png", disc((30, 20, 80), np.random.default_rng(1)))
    with pytest.raises(InputError, match="'basophil' has one crop.*--leave-out"):
        gathered(crops)
    collection, _ = gathered(crops, leave_out=("Basophils",))
    assert len(collection) == 24 and ("basophil/a.png", "its class is left out") in collection.left_out
    # A model that knows the class can do with one.
    assert len(gathered(crops, known=("basophil", "lymphocyte"))[0]) == 25


def test_a_class_to_leave_out_that_is_not_there(crops):
    with pytest.raises(InputError, match="no such class"):
        gathered(crops, leave_out=("artefact",))


def test_classes_that_the_scheme_does_not_have_are_said_before_anything_is_learnt(crops):
    (crops / "lymphocyte").rename(crops / "Lymphozyt")
    (crops / "neutrophil").rename(crops / "Foo")
    collection, warnings = gathered(crops)
    assert len(collection) == 24
    (line,) = [line for line in warnings if "scheme" in line]
    assert line.startswith("'Foo' is not a class of the scheme") and "(and 1 more: Lymphozyt)" in line
    assert "no smear can be analysed" in line
    with pytest.raises(ArgumentError, match="'Foo' is not a class of the scheme"):
        gathered(crops, rehearse=True, from_model="default")


def test_an_empty_class_folder(crops):
    (crops / "monocyte").mkdir()
    (crops / "monocyte" / "notes.txt").write_text("later")
    collection, warnings = gathered(crops)
    assert len(collection) == 24 and ["'monocyte' holds no image" in warnings[0]] == [True]


def test_one_class_only(tmp_path):
    folder = make_crops(tmp_path / "one", each=4, colours={"lymphocyte": (40, 40, 140)})
    with pytest.raises(InputError, match="one class only"):
        gathered(folder)


def test_few_unreadable_crops_are_named_and_skipped(crops):
    whole = (crops / "lymphocyte" / "000.png").read_bytes()
    (crops / "lymphocyte" / "broken.png").write_bytes(whole[: len(whole) // 2])
    collection, warnings = gathered(crops)
    assert len(collection) == 24 and "1 of 25 crops cannot be read" in warnings[0]
    assert "lymphocyte/broken.png" in warnings[0]
    assert collection.left_out == (("lymphocyte/broken.png", "it cannot be read"),)


def test_many_unreadable_crops_stop(crops):
    for number in range(3):
        (crops / "lymphocyte" / f"broken{number}.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="3 of 27 crops cannot be read"):
        gathered(crops)


def test_labels_in_different_letter_case_are_one_class(crops):
    random = np.random.default_rng(2)
    for name, count in (("Odd One", 3), ("odd one", 2), ("ODD  ONE", 1)):
        for number in range(count):
            save(crops / name / f"{name}{number}.png", disc((90, 160, 90), random))
    collection, _ = gathered(crops)
    assert collection.labels.count("Odd One") == 6 and len(set(collection.labels)) == 4


def test_the_same_image_with_different_labels(tmp_path):
    folder = make_crops(tmp_path / "crops", each=20)
    save(folder / "lymphocyte" / "twice.png", disc((1, 2, 3), np.random.default_rng(3)))
    twin = (folder / "lymphocyte" / "twice.png").read_bytes()
    (folder / "neutrophil" / "again.png").write_bytes(twin)
    collection, warnings = gathered(folder)
    assert len(collection) == 60
    assert "2 crops are the same image with different labels" in warnings[0] and "twice.png" in warnings[0]
    for number in range(10):
        same = (folder / "lymphocyte" / f"{number:03}.png").read_bytes()
        (folder / "eosinophil" / f"twin{number}.png").write_bytes(same)
    with pytest.raises(InputError, match="correct the labels"):
        gathered(folder)


def test_class_names_with_commas_quotes_and_equals_signs(tmp_path):
    random = np.random.default_rng(4)
    names = ['=cmd, "x"', "it's, odd", "lymphocyte"]
    file = tmp_path / "crops.csv"
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "class"])
        for name in names:
            for number in range(4):
                save(tmp_path / f"{names.index(name)}_{number}.png", disc((90, 160, 90), random))
                writer.writerow([f"{names.index(name)}_{number}.png", name])
    collection, _ = finished(gather(settings(file, tmp_path / "out")))
    assert set(collection.labels) == set(names)


def test_finer_classes_are_taken_for_a_models_own(crops):
    random = np.random.default_rng(5)
    for number in range(3):
        save(crops / "band_neutrophil" / f"{number}.png", disc((160, 90, 200), random))
    collection, _ = gathered(crops, known=("neutrophil", "lymphocyte", "eosinophil"))
    assert collection.labels.count("neutrophil") == 11


def test_ready_crops_are_taken_as_they_are(crops):
    config = settings(crops, crops / "out")
    collection, _ = finished(gather(config))
    made, _ = finished(cut(collection, config, CropRule(side_px=32), "cpu", CancelToken()))
    from napari_leukocls.io.images import read_image

    np.testing.assert_array_equal(made.pixels[5], read_image(collection.crops[5].path).pixels)


def test_crops_are_cut_as_evaluation_cuts_them_and_only_once(tmp_path, monkeypatch):
    import napari_leukocls.classification.single_cell as cutting
    from napari_leukocls.io.images import read_image
    from napari_leukocls.paths import sample_smear
    from napari_leukocls.segmentation.registry import compact

    monkeypatch.setenv("LEUKOCLS_CACHE", str(tmp_path / "cache"))
    smear = read_image(sample_smear()).pixels
    for name, column in (("lymphocyte", 0), ("monocyte", 150)):
        for number in range(2):
            save(tmp_path / "crops" / name / f"{number}.png", smear[120 * number :, column:][:160, :160])
    config = settings(tmp_path / "crops", tmp_path / "out", ready_crops=False, um_per_px=0.15)
    collection, _ = finished(gather(config))
    rule = read_card(find_model("default").path).crop
    made, _ = finished(cut(collection, config, rule, "cpu", CancelToken()))
    expected = cutting.cut_central(read_image(collection.crops[1].path).pixels, 0.15, compact("cpu"), rule)
    np.testing.assert_array_equal(made.pixels[1], expected.crop)
    np.testing.assert_allclose(made.kinds[1], expected.kind, rtol=1e-6)
    monkeypatch.setattr(cutting, "cut_central", None)
    again, _ = finished(cut(collection, config, rule, "cpu", CancelToken()))
    np.testing.assert_array_equal(made.pixels, again.pixels)
    assert made.not_found == again.not_found


def test_a_cache_that_is_no_cache_costs_time_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("LEUKOCLS_CACHE", str(tmp_path / "cache"))
    rule = CropRule(side_px=16)
    first = CropCache(rule, "x")
    first.put([("a", np.full((16, 16, 3), 7, np.uint8), np.array([0, 1, 0.0]), True)])
    kept = first.get("a")
    assert kept is not None and kept[0].shape == (16, 16, 3) and kept[1].tolist() == [0, 1, 0] and kept[2]
    assert first.get("b") is None
    first.close()
    for file in (tmp_path / "cache").glob("*.sqlite*"):
        file.write_bytes(b"no database" * 1000)
    second = CropCache(rule, "x")
    second.put([("a", np.zeros((16, 16, 3), np.uint8), np.zeros(3), True)])
    assert second.get("a") is None
    monkeypatch.setenv("LEUKOCLS_CACHE", "/dev/null/none")
    assert CropCache(rule, "x").get("a") is None


def test_corrections_of_a_review_store_are_crops_too():
    from dataclasses import dataclass
    from io import BytesIO
    from pathlib import Path

    from PIL import Image

    from napari_leukocls.classification.labelled_crop import LabelledCrop
    from napari_leukocls.classification.single_cell import cut_labelled
    from napari_leukocls.segmentation.registry import compact

    @dataclass(frozen=True)
    class Stored(LabelledCrop):
        image: bytes = b""
        mask: bytes = b""

        def raw(self):
            return self.image

        def pixels(self):
            return np.asarray(Image.open(BytesIO(self.image)))

        def cell_mask(self):
            return np.asarray(Image.open(BytesIO(self.mask)))

    def png(array):
        buffer = BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()

    picture = disc((40, 40, 140), np.random.default_rng(6))
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    crop = Stored(
        "a.png", Path("a.png"), "blast", 0.35, glass=(np.nan,) * 3, image=png(picture), mask=png(mask)
    )
    np.testing.assert_array_equal(crop.pixels(), picture)
    assert crop.raw() == crop.image
    rule = CropRule(side_um=11.2, side_px=32, margin_um=1.0)
    cell = cut_labelled(crop, 0.35, compact("cpu"), rule)
    made = cell.crop
    assert made.shape == (32, 32, 3) and cell.found and not cell.kind.any()
    # What is farther than the margin from the outline is glass.
    assert (made[0] == 235).all() and not (made[16, 12:20] == 235).all()


def test_a_stores_corrections_are_gathered_and_cut(tmp_path):
    from napari_leukocls.review import open_store
    from tests.results import make_result

    result = make_result()
    said = {}
    with open_store(tmp_path / "r.sqlite3") as store:
        slide = store.add_slide(result)
        for number, cell in enumerate(result.cells["cell_id"].tolist()):
            said[cell] = "blast" if number % 2 else "basophil"
            store.correct(slide, cell, said[cell], "Ada")
    config = settings("", tmp_path / "out", corrections=str(tmp_path / "r.sqlite3"), ready_crops=False)
    collection, _ = finished(gather(config))
    assert collection.labels.count("blast") == list(said.values()).count("blast") >= 2
    assert not (tmp_path / "r.sqlite3-wal").exists(), "the store is closed again"
    made, _ = finished(cut(collection, config, CropRule(side_px=64), "cpu", CancelToken()))
    assert made.pixels.shape == (len(said), 64, 64, 3) and made.not_found == 0


def test_parts_in_folders_are_trained_as_they_are(tmp_path):
    for part, each in (("train", 8), ("val", 3), ("test", 4)):
        make_crops(tmp_path / part, each, seed=each)
    collection, warnings = gathered(tmp_path)
    assert set(collection.labels) == set(COLOURS) and len(warnings) == 1
    assert "the folders test, train, val (validation) are parts of a split" in warnings[0]
    config = settings(tmp_path, tmp_path / "out")
    split, _ = finished(make_split(collection, config, sorted(COLOURS)))
    assert [len(split.rows(part)) for part in ("train", "validation", "test")] == [24, 9, 12]
    measured = drain(read_dataset(tmp_path, test_only=True))
    assert len(measured) == 12 and "only the 12 crops of the test part are used, of 45." in measured.notes


def test_cells_in_fields_are_cut_with_what_is_around_them(tmp_path):
    field = read_image(sample_smear()).pixels[:420, :560].copy()
    save(tmp_path / "images" / "f.png", field)
    (tmp_path / "classes.txt").write_text("neutrophil\nlymphocyte\n")
    labels = tmp_path / "labels" / "f.txt"
    labels.parent.mkdir()
    labels.write_text("0 0.3 0.3 0.1 0.12\n1 0.6 0.5 0.1 0.12\n0 0.02 0.9 0.04 0.1\n")
    with pytest.raises(InputError, match="--ready-crops is for crops"):
        gathered(tmp_path)
    collection, _ = gathered(tmp_path, ready_crops=False, leave_out=("lymphocyte",), known=("monocyte",))
    assert collection.labels == ["neutrophil", "neutrophil"] and set(collection.sizes) == {(420, 560)}
    first = next(crop for crop in collection.crops if crop.box == (140, 100, 196, 152))
    assert (first.pixels() == field[56:196, 98:238]).all()
    made, _ = finished(
        cut(collection, settings(tmp_path, tmp_path / "out", ready_crops=False), RULE, "cpu", CancelToken())
    )
    assert made.pixels.shape == (2, RULE.side_px, RULE.side_px, 3)
