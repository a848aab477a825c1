"""Labelled crops gathered for measuring: what cannot be read, which part, and whose they are."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_leukocls.classification.dataset import read_dataset, truth_of
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.predict import read_crops
from napari_leukocls.progress import drain


def a_folder(folder: Path, n: int) -> Path:
    for place in range(n):
        file = folder / ("lymphocyte" if place % 2 else "Neutrophils") / f"{place:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40 + place, 50, 3), place, np.uint8)).save(file)
    return folder


def test_unreadable_crops_are_named_skipped_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = a_folder(tmp_path, 40)
    whole = (folder / "lymphocyte" / "001.png").read_bytes()
    (folder / "lymphocyte" / "001.png").write_bytes(whole[: len(whole) // 2])
    (folder / "lymphocyte" / "003.png").write_text("no image")
    with caplog.at_level(logging.WARNING):
        found = drain(read_crops(folder))
    assert found.skipped == ["lymphocyte/001.png", "lymphocyte/003.png"]
    assert len(found.crops) == len(found.sizes) == 38 and found.sizes[0] == (40, 50)
    assert "lymphocyte/001.png is no readable image" in caplog.text
    assert set(truth_of(found, ["neutrophil", "lymphocyte"])) == {"neutrophil", "lymphocyte"}
    (folder / "lymphocyte" / "005.png").write_text("no image")
    with pytest.raises(InputError, match=r"3 of 40 crops cannot be read \(first lymphocyte/001.png\)"):
        drain(read_crops(folder))


def test_the_test_part_alone_where_the_table_names_one(tmp_path: Path) -> None:
    a_folder(tmp_path, 4)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    table = tmp_path / "crops.csv"
    for words, expected in ((("train", "Test", "validation", "holdout"), 2), (("", "", "", ""), 4)):
        rows = [
            f"{file},lymphocyte,{word},P{place % 2}"
            for place, (file, word) in enumerate(zip(files, words, strict=True))
        ]
        table.write_text("file,class,split,patient\n" + "\n".join(rows) + "\n")
        assert len(drain(read_crops(table)).crops) == expected
        assert len(drain(read_dataset(table)).crops) == 4
    groups = drain(read_dataset(table)).groups
    assert groups is not None and list(groups) == ["P0", "P1", "P0", "P1"]
    table.write_text(table.read_text().replace(",P1", ","))
    assert drain(read_dataset(table)).groups is None, "one crop without a patient or slide"
