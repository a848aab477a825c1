"""Files that a model was trained on are known again, however its folder names them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cards import card_values

from napari_leukocls.classification.labelled_crop import LabelledCrop
from napari_leukocls.errors import InputError, ModelError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.provenance import name_digest, note_seen, refuse_seen, seen_files, used_hashes
from napari_leukocls.models.registry import ModelEntry, find_model


@pytest.fixture
def crops(tmp_path: Path) -> list[LabelledCrop]:
    for place in range(4):
        (tmp_path / f"{place}.png").write_bytes(bytes([place]))
    return [LabelledCrop(f"{place}.png", tmp_path / f"{place}.png", "lymphocyte") for place in range(4)]


def a_model(tmp_path: Path, **card: Any) -> ModelEntry:
    folder = tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "model.json").write_text(json.dumps({**card_values("mine"), **card}))
    return ModelEntry("mine", folder, "user")


def joined(names: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def test_a_list_in_the_card(tmp_path: Path, crops: list[LabelledCrop]) -> None:
    hashes = [sha256_of(crop.path) for crop in crops]
    entry = a_model(tmp_path, split={"train": hashes[:1], "validation": hashes[1:2], "test": hashes[2:]})
    assert used_hashes(entry) == set(hashes[:2])
    assert seen_files(entry, crops) == (["0.png", "1.png"], True)
    assert refuse_seen(entry, crops[2:]) == []
    with pytest.raises(InputError, match=r"1 of 3 crops were used to train or tune 'mine' \(first 1.png\)"):
        refuse_seen(entry, crops[1:])


def test_a_table_beside_the_card_goes_first_and_a_new_name_does_not_hide_a_file(
    tmp_path: Path, crops: list[LabelledCrop]
) -> None:
    entry = a_model(tmp_path, split={"train": []})
    rows = [
        f"old_{crop.file},{sha256_of(crop.path)},x,{part}"
        for crop, part in zip(crops, ("train", "left out", "test", "validation"), strict=True)
    ]
    (entry.path / "split.csv").write_text(
        "file,sha256,class,part\n" + "\n".join(rows) + "\nlost.png,,x,left out\n"
    )
    assert seen_files(entry, crops) == (["0.png", "3.png"], True)


@pytest.mark.parametrize("what", ["names", "hashes"])
def test_a_digest_of_the_whole_list(tmp_path: Path, crops: list[LabelledCrop], what: str) -> None:
    if what == "names":
        entry = a_model(tmp_path, training_data={"files_sha256": joined([crop.file for crop in crops])})
    else:
        digest = joined([sha256_of(crop.path) for crop in crops])
        entry = a_model(tmp_path, split={"files_sha256": {"train": digest, "test": "x"}})
    assert seen_files(entry, crops) == ([crop.file for crop in crops], True)
    # A part of the list cannot be told by the digest of the whole.
    assert seen_files(entry, crops[:3]) == ([], False)
    assert "does not list its training files" in refuse_seen(entry, crops[:3])[0]


def test_copies_of_a_public_set_are_known_by_their_names(tmp_path: Path, crops: list[LabelledCrop]) -> None:
    entry = a_model(tmp_path)
    (entry.path / "learnt_names.txt").write_text("\n".join(name_digest(crop.file) for crop in crops[:2]))
    moved = [LabelledCrop(f"folder/{crop.file}", crop.path, crop.class_name) for crop in crops]
    assert seen_files(entry, moved) == (["folder/0.png", "folder/1.png"], True)
    assert note_seen(entry, moved) == [
        "2 of 4 crops (first folder/0.png) were used to train or tune 'mine': its figures are too good. Measure it on "
        "other cells."
    ]
    assert "1 of 2 crops (first folder/1.png) was used" in note_seen(entry, moved[1:3])[0]
    assert note_seen(entry, moved[2:]) == [] and refuse_seen(entry, moved[2:]) == []


@pytest.mark.parametrize("name", ["default", "accurate"])
def test_the_bundled_models_list_what_they_learnt_from(name: str) -> None:
    def is_held_out(file: str) -> bool:
        return int(hashlib.sha256(file.encode()).hexdigest(), 16) % 5 == 0

    files = [f"BloodImage_{number:05}.jpg" for number in range(300)]
    found, _ = seen_files(find_model(name), [LabelledCrop(file, Path(file), "neutrophil") for file in files])
    assert len(found) > 150 and not any(map(is_held_out, found))


@pytest.mark.parametrize("card", [{}, {"split": "by name"}, {"split": {}}, {"training_data": "PBC"}])
def test_a_card_that_says_nothing(tmp_path: Path, crops: list[LabelledCrop], card: dict[str, Any]) -> None:
    assert len(refuse_seen(a_model(tmp_path, **card), crops)) == 1


@pytest.mark.parametrize("text", [b"file,class\na,b\n", b"\xff\xfe\x00"])
def test_a_damaged_table_is_said(tmp_path: Path, crops: list[LabelledCrop], text: bytes) -> None:
    entry = a_model(tmp_path)
    (entry.path / "split.csv").write_bytes(text)
    with pytest.raises(ModelError, match="split.csv' cannot be read"):
        refuse_seen(entry, crops)
