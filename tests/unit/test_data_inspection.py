"""What labelled data holds: counts, doubles, contradictions, doubtful labels; and a table that trains."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from crops_for_training import COLOURS, disc, make_crops, save, settings, train
from PIL import Image

from napari_leukocls.classification.dataset import list_labelled
from napari_leukocls.cli import cli
from napari_leukocls.io.images import read_image
from napari_leukocls.progress import drain
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.inspection import Inspection, inspect, lines_of, nearest, write_inspection


def fields(root: Path, n: int = 6) -> Path:
    """Fields with a cell of each class, as YOLO's boxes."""
    random = np.random.default_rng(0)
    names = list(COLOURS)
    for i in range(n):
        field = np.full((96, 320, 3), 235, np.uint8)
        lines = []
        for k, name in enumerate(names):
            field[30:62, 40 + 100 * k : 72 + 100 * k] = disc(COLOURS[name], random)
            lines.append(f"{k} {(56 + 100 * k) / 320:.6f} {46 / 96:.6f} {32 / 320:.6f} {32 / 96:.6f}\n")
        save(root / "images" / f"{i}.png", field)
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{i}.txt").write_text("".join(lines))
    (root / "classes.txt").write_text("\n".join(names))
    return root


def text_of(found: Inspection) -> str:
    return "\n".join(lines_of(found))


def test_what_is_wrong_is_found_and_the_table_leaves_it_out(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part in ("train", "test"):
        make_crops(data / part, each=10, seed=len(part))
    first = data / "train" / "neutrophil" / "000.png"
    again = data / "test" / "neutrophil" / "again.png"
    again.write_bytes(first.read_bytes())
    torn = data / "train" / "lymphocyte" / "torn.png"
    torn.write_bytes((data / "train" / "eosinophil" / "001.png").read_bytes())
    turned = read_image(data / "train" / "eosinophil" / "002.png").pixels[::-1].copy()
    save(data / "test" / "eosinophil" / "turned.png", turned)
    save(data / "train" / "Neutrofil odd" / "1.png", disc((9, 9, 9), np.random.default_rng(5)))
    (data / "train" / "lymphocyte" / "broken.png").write_bytes(b"no image")
    found, dataset = drain(inspect(data))
    assert found.kind == "class folders with a split" and found.crops == 64
    assert found.counts["neutrophil"] == {"test": 11, "train": 10}
    assert found.unreadable == ["train/lymphocyte/broken.png"] and found.without_patient == 64
    assert set(found.unknown) == {"Neutrofil odd"} and "neutrophil" in found.unknown["Neutrofil odd"]
    same = {(pair.second, pair.how) for pair in found.doubles}
    assert ("train/neutrophil/000.png", "same file") in same
    assert ("train/eosinophil/002.png", "looks alike") in same
    (contradiction,) = found.contradictions
    assert set(contradiction.labels) == {"eosinophil", "lymphocyte"} and contradiction.how == "same file"
    text = text_of(found)
    assert "2 pairs of them are in different parts" in text and "without a patient or slide" in text
    table = write_inspection(found, dataset, tmp_path / "out")
    listing = list_labelled(table, default_scheme())
    names = {Path(crop.file).name for crop in listing.crops}
    assert len(listing.crops) == 64 - 3 and "torn.png" not in names and "turned.png" in names
    assert {crop.split for crop in listing.crops} == {"train", "test"}
    assert json.loads((tmp_path / "out" / "inspection.json").read_text())["crops"] == 64


def test_the_command_writes_a_table_of_fields_that_trains(tmp_path: Path) -> None:
    data = fields(tmp_path / "yolo")
    out = tmp_path / "out"
    run = CliRunner().invoke(cli, ["data", "inspect", str(data), "--out", str(out)])
    assert run.exit_code == 0, run.output
    assert (
        "YOLO boxes, 18 crops of 3 classes" in run.output
        and f"the table is {out / 'crops.csv'}" in run.output
    )
    crops = list_labelled(out / "crops.csv", default_scheme()).crops
    assert len(crops) == 18 and all(
        crop.box is None and crop.path.parent.name == crop.class_name for crop in crops
    )
    direct = {crop.raw() for crop in list_labelled(data, default_scheme()).crops}
    assert {crop.raw() for crop in crops} == direct, "the written crops are those that a training cuts itself"
    with Image.open(crops[0].path) as image:
        assert image.size == (80, 80)
    model, _ = train(settings(out / "crops.csv", tmp_path / "model", epochs=1, um_per_px=0.2))
    assert (model / "model.json").is_file()


def test_json_and_wrong_paths(tmp_path: Path) -> None:
    data = make_crops(tmp_path / "data", each=3)
    run = CliRunner().invoke(cli, ["data", "inspect", str(data), "--json"])
    found = json.loads(run.stdout)
    assert (
        found["kind"] == "class folders"
        and found["table"] is None
        and found["counts"]["neutrophil"] == {"": 3}
    )
    run = CliRunner().invoke(cli, ["data", "inspect", str(tmp_path / "none")])
    assert run.exit_code and "there is no" in str(run.exception)


def test_two_boxes_of_one_cell_with_two_labels(tmp_path: Path) -> None:
    data = fields(tmp_path / "yolo", 2)
    label = data / "labels" / "0.txt"
    label.write_text(
        label.read_text() + label.read_text().splitlines()[0].replace("0 ", "1 ", 1).replace("0.17", "0.171")
    )
    found, _ = drain(inspect(data))
    assert [(pair.how, set(pair.labels)) for pair in found.contradictions] == [
        ("same place", {"neutrophil", "lymphocyte"})
    ]


def test_the_nearest_class() -> None:
    scheme = default_scheme()
    assert nearest("lymphocite", scheme) == "lymphocyte" and nearest("Eosinophile?", scheme) == "eosinophil"
    assert nearest("xyz", scheme) == ""


def test_a_model_is_asked_about_the_labels(shared_data: Path, tmp_path: Path) -> None:
    for name, label in (("lymphocyte", "lymphocyte"), ("eosinophil", "lymphocyte")):
        for path in sorted((shared_data / "pbc" / name).glob("*.jpg"))[:2]:
            save(tmp_path / label / f"{name}-{path.stem}.png", read_image(path).pixels)
    found, _ = drain(inspect(tmp_path, "default", "cpu", 0.153))
    assert {Path(doubt.file).name[:10] for doubt in found.doubtful} == {"eosinophil"}
    assert all(doubt.predicted == "eosinophil" for doubt in found.doubtful)
    assert "labels that default contradicts" in text_of(found) or "label that default contradicts" in text_of(
        found
    )
