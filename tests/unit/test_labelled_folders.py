"""Class folders as people have them: with parts of a split, with patients, with leftovers of other systems."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_leukocls.classification.dataset import Listing, list_labelled
from napari_leukocls.datasets.folders import split_word
from napari_leukocls.errors import InputError
from napari_leukocls.scheme import default_scheme


def tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 90, np.uint8)).save(root / file)
    return root


def found(root: Path) -> Listing:
    return list_labelled(root, default_scheme())


def rows(root: Path) -> list[tuple[str, str, str]]:
    return [(crop.class_name, crop.split, crop.patient) for crop in found(root).crops]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *(
            (name, "train")
            for name in ("train", "TRAIN", "training", "train_set", "01_train", "train2017", "trains")
        ),
        *((name, "validation") for name in ("val", "valid", "Validation", "val_images", "dev")),
        *(
            (name, "test")
            for name in ("test", "Testing", "TestA", "test-B", "TEST_SIMPLE", "holdout", "tests")
        ),
        *(
            (name, "")
            for name in ("neutrophil", "lymphocyte_test", "untested", "P1", "trained cells x", "", "7")
        ),
    ],
)
def test_words_for_parts(name: str, part: str) -> None:
    assert split_word(name) == part


@pytest.mark.parametrize(
    "parts", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "TEST")]
)
@pytest.mark.parametrize("classes", [("neutrophil", "lymphocyte"), ("hairy", "smudgy")])
def test_parts_of_a_split_are_no_classes(
    tmp_path: Path, parts: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    tree(tmp_path, *(f"{part}/{name}/{i}.png" for part in parts for name in classes for i in range(2)))
    listing = found(tmp_path)
    expected = {default_scheme().resolve(name) or name for name in classes}
    assert {crop.class_name for crop in listing.crops} == expected
    assert {crop.split for crop in listing.crops} == {split_word(part) for part in parts}
    assert listing.kind == "class folders with a split" and "are parts of a split" in listing.notes[0]


def test_parts_below_the_classes_and_a_folder_around_all(tmp_path: Path) -> None:
    tree(tmp_path / "a", *(f"{name}/{part}/1.png" for part in ("train", "test") for name in ("MO", "LY")))
    assert sorted(rows(tmp_path / "a")) == [
        ("lymphocyte", "test", ""), ("lymphocyte", "train", ""), ("monocyte", "test", ""), ("monocyte", "train", "")
    ]  # fmt: skip
    tree(
        tmp_path / "b",
        *(f"dataset/images/{part}/{name}/1.png" for part in ("TRAIN", "TEST") for name in ("MO", "X")),
    )
    assert {row[:2] for row in rows(tmp_path / "b")} == {
        (name, part) for name in ("monocyte", "X") for part in ("train", "test")
    }


def test_patients_above_and_below_the_classes(tmp_path: Path) -> None:
    tree(tmp_path / "above", *(f"P{i}/{name}/1.png" for i in range(3) for name in ("neutrophil", "monocyte")))
    listing = found(tmp_path / "above")
    assert {(crop.class_name, crop.patient) for crop in listing.crops} == {
        (name, f"P{i}") for i in range(3) for name in ("neutrophil", "monocyte")
    }
    assert "P0, P1, P2 are taken as patients" in listing.notes[0]
    tree(tmp_path / "below", *(f"{name}/P{i}/1.png" for i in range(3) for name in ("hairy", "smudgy")))
    assert {crop.patient for crop in found(tmp_path / "below").crops} == {"P0", "P1", "P2"}
    tree(tmp_path / "both", *(f"train/P{i}/{name}/1.png" for i in range(2) for name in ("MO", "LY")))
    assert set(rows(tmp_path / "both")) == {
        (name, "train", f"P{i}") for i in range(2) for name in ("monocyte", "lymphocyte")
    }


def test_a_folder_test_among_real_classes_is_no_class(tmp_path: Path) -> None:
    tree(tmp_path, "neutrophil/1.png", "lymphocyte/1.png", "test/1.png", "test/2.png")
    listing = found(tmp_path)
    assert {crop.class_name for crop in listing.crops} == {"neutrophil", "lymphocyte"}
    assert any(
        "'test' is named after a part" in note and "2 images in it are left out" in note
        for note in listing.notes
    )


@pytest.mark.parametrize(
    "files",
    [
        ("train/neutrophil/1.png", "train/monocyte/1.png", "lymphocyte/1.png"),
        ("train/neutrophil/1.png", "lymphocyte/1.png", "monocyte/1.png"),
        ("train/neutrophil/1.png", "test/neutrophil/1.png", "later/neutrophil/1.png"),
    ],
)
def test_a_mixture_is_refused(tmp_path: Path, files: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="different depths|beside") as caught:
        found(tree(tmp_path, *files))
    assert "\n" not in str(caught.value)


def test_leftovers_of_other_systems_are_ignored(tmp_path: Path) -> None:
    tree(
        tmp_path,
        *("train/MO/1.png", "train/LY/1.png", "test/MO/1.png", "test/LY/1.png"),
        *("__MACOSX/train/MO/._1.png", "train/MO/._1.png", ".ipynb_checkpoints/a.png", "train/@eaDir/x.png"),
        *("masks/MO/1.png", "train/LY/cell_masks/1.png", "loose.png"),
    )
    (tmp_path / "train" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "train" / "MO" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "train" / "MO" / "desktop.ini").write_text("x")
    listing = found(tmp_path)
    assert len(listing.crops) == 4
    assert any("1 image outside the class folders is left out" in note for note in listing.notes), (
        listing.notes
    )


def test_an_empty_class_folder_is_said_with_and_without_parts(tmp_path: Path) -> None:
    tree(tmp_path, "train/MO/1.png", "train/LY/1.png", "test/MO/1.png")
    (tmp_path / "train" / "basophil").mkdir()
    notes = found(tmp_path).notes
    assert "the class folder 'basophil' holds no image: the class is not trained." in notes
    assert not any("'LY'" in note for note in notes)
