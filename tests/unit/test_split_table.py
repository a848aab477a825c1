"""A model's split.csv: what training writes, evaluation reads, and nothing that was trained on is measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from crops_for_training import make_crops, settings, train

from napari_leukocls.classification.dataset import list_crops, read_dataset
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.compare import iter_compare
from napari_leukocls.evaluation.predict import assess
from napari_leukocls.models.provenance import SplitRow, read_split, refuse_seen, write_split
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return train(settings(make_crops(folder / "crops"), folder / "out", epochs=1))[0]


def test_a_models_split_is_measured_on_its_test_part_alone(model: Path) -> None:
    table = model / "split.csv"
    rows = read_split(table)
    test = sorted(row.file for row in rows if row.split == "test")
    assert 0 < len(test) < len(rows) / 2
    predictions, metrics, _ = drain(assess(str(model), table, "cpu", 0.35))
    assert sorted(predictions["file"]) == test and metrics["n"] == len(test)
    chosen = drain(read_dataset(table, test_only=True))
    assert sorted(crop.file for crop in chosen.crops) == test
    assert refuse_seen(find_model(str(model)), chosen.crops) == []
    with pytest.raises(InputError, match="were used to train or tune 'made'"):
        refuse_seen(find_model(str(model)), drain(read_dataset(table)).crops)


@pytest.mark.slow
def test_models_are_compared_on_the_test_part_of_one_of_them(model: Path, tmp_path: Path) -> None:
    test = [row for row in read_split(model / "split.csv") if row.split == "test"]
    compared = drain(iter_compare([str(model), "default"], model / "split.csv", tmp_path, "cpu", 0.35))
    assert compared["n"] == len(test)


def test_a_table_of_an_earlier_version_is_read(model: Path, tmp_path: Path) -> None:
    old = model.parent / "crops.csv"
    text = (model / "split.csv").read_text()
    assert text.startswith("file,sha256,class,split,reason\n")
    old.write_text(text.replace("class,split,reason", "class,part,reason"))
    shutil.copy(model / "run.json", old.parent / "run.json")
    assert read_split(old) == read_split(model / "split.csv")
    assert drain(read_dataset(old, test_only=True)) is not None
    parts = [crop.split for crop in list_crops(old, default_scheme())]
    assert parts == [row.split for row in read_split(model / "split.csv")]


def test_a_table_away_from_its_crops_says_what_to_do(model: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "split.csv"
    shutil.copy(model / "split.csv", lonely)
    with pytest.raises(
        InputError, match=r"36 of 36 crops of .* are not found .* into the folder of the crops"
    ):
        list_crops(lonely, default_scheme())
    data = Path(json.loads((model / "run.json").read_text())["config"]["data"])
    beside = Path(shutil.copytree(data, tmp_path / "crops")) / "split.csv"
    shutil.copy(lonely, beside)
    assert len(list_crops(beside, default_scheme())) == 36


def test_a_table_without_a_test_part_is_refused(model: Path, tmp_path: Path) -> None:
    rows = [
        SplitRow(row.file, row.sha256, row.class_name, "train") for row in read_split(model / "split.csv")
    ]
    (tmp_path / "run.json").write_text((model / "run.json").read_text())
    write_split(tmp_path / "split.csv", rows)
    with pytest.raises(InputError, match="no crop of the test part"):
        drain(assess(str(model), tmp_path / "split.csv", "cpu", 0.35))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    rows = [
        SplitRow("=1+1/a.png", "ab", "-odd", "train"),
        SplitRow("b, c.png", "", "", "", "it cannot be read"),
        SplitRow("'d.png", "cd", "blast", "test"),
    ]
    write_split(tmp_path / "split.csv", rows)
    assert read_split(tmp_path / "split.csv") == rows
    assert "\n'=1+1/a.png" in (tmp_path / "split.csv").read_text()


def test_another_word_for_a_part_is_refused(tmp_path: Path) -> None:
    (tmp_path / "crops.csv").write_text("file,class,split\na.png,MO,Holdout\nb.png,MO,fold 1\n")
    with pytest.raises(
        InputError, match=r"b.png: the column split says 'fold 1': write train, validation or test"
    ):
        list_crops(tmp_path / "crops.csv", default_scheme())
