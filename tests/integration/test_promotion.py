"""Models at the gate and compared, on leukocytes cut from the teaching smears, with the bundled network."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from napari_leukocls.classification import single_cell
from napari_leukocls.classification.single_cell import CentralCell
from napari_leukocls.cli import main
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.promote import decide, promote
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.install import activate
from napari_leukocls.models.registry import active_classifier, find_model
from napari_leukocls.paths import bundled_dir, user_data_dir

WANTED = {"segmented_neutrophil": 9, "lymphocyte": 9, "eosinophil": 7}
RAREST = "eosinophil"
HALF = 80
_CUT: dict[tuple[object, ...], CentralCell] = {}


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of labelled crops of known scale."""
    folder = tmp_path_factory.mktemp("crops")
    counts: Counter[str] = Counter()
    rows = []
    for truth in sorted(bundled_dir("sample_data").glob("*_truth.csv")):
        smear = truth.with_name(truth.name.replace("_truth.csv", ".jpg"))
        pixels = np.pad(
            np.asarray(Image.open(smear).convert("RGB")), ((HALF, HALF), (HALF, HALF), (0, 0)), "edge"
        )
        with open(truth, newline="") as file:
            for row in csv.DictReader(file):
                name = row["class"]
                if counts[name] >= WANTED.get(name, 0) or float(row["visible_fraction"]) < 0.95:
                    continue
                counts[name] += 1
                y, x = round(float(row["centroid_y"])), round(float(row["centroid_x"]))
                crop = folder / f"{name}_{counts[name]:02d}.png"
                Image.fromarray(pixels[y : y + 2 * HALF, x : x + 2 * HALF]).save(crop)
                scale = float(row["diameter_um"]) / max(
                    int(row["bbox_y1"]) - int(row["bbox_y0"]), int(row["bbox_x1"]) - int(row["bbox_x0"])
                )
                rows.append({"file": crop.name, "class": name, "um_per_px": f"{scale:.4f}"})
    assert counts[RAREST] == WANTED[RAREST]
    return _table(folder / "crops.csv", rows)


@pytest.fixture(autouse=True)
def _cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests show the same crops again and again: outlining them once is enough."""

    def cut(pixels: np.ndarray, um_per_px: float, segmenter: object, rule: object) -> CentralCell:
        key = (pixels.tobytes(), um_per_px, rule)
        if key not in _CUT:
            _CUT[key] = cutting(pixels, um_per_px, segmenter, rule)
        return _CUT[key]

    cutting = single_cell.cut_central
    monkeypatch.setattr(single_cell, "cut_central", cut)


def _table(path: Path, rows: list[dict[str, str]]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def _copy(folder: Path, name: str, bias: float = 0.0, classes: list[str] | None = None) -> Path:
    """The bundled classifier under another name; `bias` is added to the logit of the rarest class."""
    target = folder / name
    shutil.copytree(bundled_dir("models") / "default", target)
    card = json.loads((target / "model.json").read_text())
    card["name"] = name
    place = card["classes"].index(RAREST)
    if abs(bias) > 1 or classes:
        # The model that the default asks about unsure cells would make up for what is done to this one.
        card |= {"second_opinion": None, "second_look": 0.0}
    if bias:
        tensors = load_file(target / "weights.safetensors")
        tensors["classifier.bias"][place] += bias
        save_file(tensors, target / "weights.safetensors")
        del card["weights_sha256"]
    if classes:
        card["classes"] = [dict(zip([RAREST], classes, strict=True)).get(one, one) for one in card["classes"]]
    (target / "model.json").write_text(json.dumps(card))
    return target


def active_file() -> Path:
    return user_data_dir() / "active.json"


def test_worse_in_the_rarest_class_alone_is_not_promoted(crops: Path, tmp_path: Path) -> None:
    worse = _copy(tmp_path, "worse", bias=-30.0)
    decision = promote(str(worse), None, crops, tmp_path / "out")
    assert not decision.promote
    assert re.match(
        r"not promoted: 'worse' is worse in eosinophil: recall \d+ % to 0 % of 7 cells", decision.reason
    )
    rows = {row.name: row for row in decision.classes}
    assert rows[RAREST].verdict == "fell"
    assert all(rows[name].verdict != "fell" for name in ("neutrophil", "lymphocyte"))
    assert not active_file().exists() and not (user_data_dir() / "models").exists()
    record = json.loads((tmp_path / "out" / "promotion.json").read_text())
    assert record["promote"] is False and record["active"] == "default"
    assert record["per_class"][RAREST]["lost"] >= 6
    assert "basophil" in record["not_judged"], "a class without cells is said to be so"


def test_the_better_model_is_promoted_over_the_worse_and_becomes_the_active_one(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worse, better = _copy(tmp_path, "worse", bias=-30.0), _copy(tmp_path, "better")
    before = sha256_of(bundled_dir("models") / "default" / "weights.safetensors")
    words = [
        "promote",
        str(better),
        "--over",
        str(worse),
        "--data",
        str(crops),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "promoted: no class has enough cells" in said.out and "active model: better" in said.out
    assert "does not list its training files" not in said.err
    assert active_classifier() == "better"
    entry = find_model("better")
    assert entry.origin == "user" and entry.path == user_data_dir() / "models" / "better"
    assert sha256_of(entry.weights) == sha256_of(better / "weights.safetensors")
    record = json.loads((tmp_path / "out" / "promotion.json").read_text())
    assert record["promote"] is True and record["active"] == "better"
    assert json.loads((entry.path / "promotion.json").read_text()) == record
    assert sha256_of(bundled_dir("models") / "default" / "weights.safetensors") == before
    assert main(["models", "info", str(better)]) == 0


def test_the_same_model_passes_and_a_bundled_one_is_never_overwritten(crops: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    same = _copy(tmp_path / "mine", "default", bias=5e-4)
    decision = promote(str(same), "default", crops, tmp_path)
    assert decision.promote and all(row.lost == row.gained == 0 for row in decision.classes)
    assert active_classifier() == "default-2"
    assert find_model("default").origin == "bundled"
    assert json.loads((find_model("default-2").path / "model.json").read_text())["name"] == "default-2"
    # Once more: the same weights are there already.
    assert promote(str(same), "default", crops, tmp_path).promote
    assert active_classifier() == "default-2"
    assert [path.name for path in (user_data_dir() / "models").iterdir()] == ["default-2"]
    # Back to the bundled one: nothing is copied.
    assert promote("default", None, crops, tmp_path).promote
    assert active_classifier() == "default"
    assert [path.name for path in (user_data_dir() / "models").iterdir()] == ["default-2"]


def test_a_copy_gets_a_name_of_its_own_and_other_models_are_left_alone(tmp_path: Path) -> None:
    taken = user_data_dir() / "models" / "my-model"
    taken.mkdir(parents=True)
    (taken / "model.json").write_text("{")
    entry = activate(find_model(_copy(tmp_path, "my model")))
    assert (entry.name, entry.origin) == ("my-model-2", "user")
    assert (taken / "model.json").read_text() == "{"
    # The same weights with another threshold are another model.
    card = json.loads((entry.path / "model.json").read_text())
    changed = _copy(tmp_path, "my-model-2")
    (changed / "model.json").write_text(json.dumps(card | {"review_threshold": 0.5}))
    assert activate(find_model(changed)).name == "my-model-2-2"
    assert find_model("my-model-2").card()["review_threshold"] == card["review_threshold"]
    assert activate(find_model("default")).origin == "bundled"


def test_a_model_is_not_judged_on_what_it_was_trained_on(crops: Path, tmp_path: Path) -> None:
    model = _copy(tmp_path, "mine")
    first = sorted(crops.parent.glob("*.png"))[:3]
    lines = [
        f"{file.name},{sha256_of(file)},x,{part}"
        for file, part in zip(first, ("train", "test", "validation"), strict=True)
    ]
    (model / "split.csv").write_text("file,sha256,class,part\n" + "\n".join(lines) + "\n")
    with pytest.raises(
        InputError, match=r"2 of 25 crops were used to train or tune 'mine' \(first eosinophil_01"
    ):
        decide(str(model), None, crops)
    assert main(["promote", str(model), "--data", str(crops), "--out", str(tmp_path)]) == 1
    assert not active_file().exists() and not (tmp_path / "promotion.json").exists()


def test_a_model_that_no_longer_knows_a_class_is_not_promoted(crops: Path, tmp_path: Path) -> None:
    model = _copy(tmp_path, "mine", classes=["blast"])
    decision = decide(str(model), None, crops)
    assert not decision.promote
    assert "worse in eosinophil" in decision.reason and "does not know this class" in decision.reason
    assert decision.figures["new_classes"] == {"blast": {"n": 0, "recall_new": None}}
    assert main(["promote", str(model), "--data", str(crops), "--out", str(tmp_path), "--exit-code"]) == 1


def test_too_few_cells_are_refused(crops: Path, tmp_path: Path) -> None:
    with open(crops, newline="") as file:
        rows = list(csv.DictReader(file))
    few = _table(crops.parent / "few.csv", rows[:2])
    with pytest.raises(InputError, match="has 3 cells"):
        decide(str(_copy(tmp_path, "mine")), None, few)


def test_models_are_compared_on_the_same_crops(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_leukocls.evaluation.speed.BATCHES", (1, 8))
    monkeypatch.setattr("napari_leukocls.evaluation.speed.REPEATS", 3)
    worse = _copy(tmp_path, "worse", bias=-30.0)
    out = tmp_path / "out"
    assert (
        main(["compare", "default", str(worse), "--data", str(crops), "--out", str(out), "--device", "cpu"])
        == 0
    )
    assert "default is better" in capsys.readouterr().out
    result = json.loads((out / "compare.json").read_text())
    models = {row["model"]: row for row in result["models"]}
    assert (
        models["default"]["per_class"][RAREST]["recall"] > 0.8
        and models["worse"]["per_class"][RAREST]["recall"] == 0
    )
    assert models["default"]["parameters"] == models["worse"]["parameters"] > 2e6
    assert result["pairs"][0]["only_first_right"] >= 6
    assert 0.02 < models["default"]["gmacs"] < 1 and models["default"]["ms_per_image_batch1"] > 0
    assert (out / "pareto.svg").is_file() and (out / "report.html").is_file()


def test_an_evaluation_end_to_end(crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "default", str(crops), "--out", str(tmp_path), "--device", "cpu"]) == 0
    assert "does not know" not in capsys.readouterr().err
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["n"] == 25 and metrics["per_class"][RAREST]["recall"] > 0.8
    assert metrics["before_temperature"]["ece"] > 0 and metrics["skipped"] == []
    assert (tmp_path / "embedding_tsne.png").is_file() and (tmp_path / "report.html").is_file()


def test_crops_of_classes_that_a_model_does_not_know_are_named(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(crops)
    rows["class"] = rows["class"].where(rows["class"] != RAREST, "blast")
    rows["file"] = [str(crops.parent / file) for file in rows["file"]]
    rows.to_csv(tmp_path / "few.csv", index=False)
    words = [str(tmp_path / "few.csv"), "--device", "cpu"]
    assert main(["evaluate", "default", *words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    number = json.loads((tmp_path / "out" / "metrics.json").read_text())["unknown_classes"]["blast"]["n"]
    assert f"{number} crops are of classes that the model does not know (blast {number})" in said
    assert "report.html" in said


def test_a_measurement_on_what_a_model_learnt_from_is_said(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = pd.read_csv(crops)
    copy = tmp_path / "BloodImage_00000.jpg"  # of BCCD, which `default` learnt from
    copy.write_bytes((crops.parent / rows["file"][0]).read_bytes())
    rows["file"] = [str(copy), *(str(crops.parent / file) for file in rows["file"][1:])]
    rows.to_csv(tmp_path / "few.csv", index=False)
    words = [str(tmp_path / "few.csv"), "--device", "cpu"]
    assert main(["evaluate", "default", *words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().err
    assert f"1 of {len(rows)} crops (first " in said and "its figures are too good" in said
    notes = json.loads((tmp_path / "out" / "metrics.json").read_text())["data_notes"]
    assert any("was used to train or tune 'default'" in note for note in notes)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("compare", "default", "default", "--data", "d", "--out", "x"),
            "the model 'default' is named twice",
        ),
        (("compare", "default", "nix", "--data", "d", "--out", "x"), "there is no model 'nix'"),
        (("compare", "default", "--data", "nowhere", "--out", "x"), "there is no 'nowhere'"),
        (("promote", "nix", "--data", "d"), "there is no model 'nix'"),
        (("promote", "default", "--over", "nix", "--data", "d"), "there is no model 'nix'"),
        (("promote", "default"), "Missing option '--data'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    words: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(list(words)) in (1, 2)
    error = capsys.readouterr().err.strip()
    assert says in error and len(error.splitlines()) == 1
