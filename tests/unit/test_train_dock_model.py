"""What the Train dock says: whether a model is better, which step runs, what was kept, and what is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from napari_leukocls.classification.dataset import list_crops
from napari_leukocls.classification.fine import offered_fine_classes
from napari_leukocls.errors import InputError
from napari_leukocls.evaluation.gate import judge_classes, judge_overall, reason
from napari_leukocls.evaluation.shared_classes import shared_crops
from napari_leukocls.explanation.carry_over import FINER, HEATMAPS, MORPHOLOGY, abilities, carry_over, lost
from napari_leukocls.explanation.recheck import LEAST_CROPS, iter_recheck
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.review.teaching import teaching_cells, teaching_picture
from napari_leukocls.scheme import default_scheme
from napari_leukocls.training.config import make_train_config
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.widgets.common.session import Session
from napari_leukocls.widgets.train.pace import EPOCHS, Pace, steps_of
from napari_leukocls.widgets.train.results_model import what_was_kept, with_scales
from napari_leukocls.widgets.train.verdict import verdict_of

CLASSES = ("lymphocyte", "monocyte", "neutrophil")


def decided(truth: list[str], current: list[str], new: list[str]) -> Any:
    """The decision of the gate on what two models said."""
    shared = shared_crops(truth, CLASSES, lambda name, _: name)
    columns = [np.array([CLASSES.index(one) for one in said]) for said in (current, new)]
    verdicts = judge_classes(shared, *columns)
    overall = judge_overall(shared, *columns)
    promote = not overall["fell"] and all(row.verdict != "fell" for row in verdicts)
    text = reason("ours", verdicts, overall)
    return SimpleNamespace(promote=promote, reason=text, overall=overall, classes=verdicts)


def test_a_fall_that_nobody_can_judge_is_no_yes() -> None:
    # 98.8 % to 97.5 % on 80 cells, with too few cells in every class.
    truth = [*["lymphocyte"] * 7, *["monocyte"] * 7, *["neutrophil"] * 7]
    new = [*truth]
    new[0] = "monocyte"
    found = verdict_of(decided(truth, truth, new))
    assert found.kind == "cannot tell" and found.headline == "Cannot tell: too few cells."
    assert "100.0 %" in found.text and "95.2 %" in found.text and "lymphocyte (7)" in found.text


def test_better_as_good_and_worse_are_told_apart() -> None:
    truth = [name for name in CLASSES for _ in range(400)]
    wrong = ["monocyte" if i % 5 == 0 else name for i, name in enumerate(truth)]
    assert verdict_of(decided(truth, wrong, truth)).kind == "better"
    assert verdict_of(decided(truth, truth, wrong)).kind == "worse"
    assert verdict_of(decided(truth, wrong, wrong)).kind == "as good"


def test_steps_have_numbers_and_a_time_left() -> None:
    now = [0.0]
    config = make_train_config("quick", data="x", out="y", from_model="default")
    pace = Pace(config, lambda: now[0])
    assert steps_of(config)[-3:] == (EPOCHS, "fit", "test")
    place = pace.at("cut", 0, 100)
    assert (place.number, place.of, place.seconds_left) == (3, 7, None)
    now[0] = 10
    place = pace.at("cut", 50, 100)
    assert place.seconds_left == pytest.approx(10)
    # The first epoch is over when it is heard of.
    assert pace.at(EPOCHS, 1, 20).seconds_left is None
    now[0] = 30
    assert pace.at(EPOCHS, 2, 20).seconds_left == pytest.approx(18 * 20)
    assert pace.at("odd", 0, 1).number == 0


def test_what_was_kept_is_said() -> None:
    def ended(kind: Any, best: int, epochs: int, planned: int = 20) -> str:
        events = [TrainEvent("epoch", {"epoch": i + 1, "epochs": planned}) for i in range(epochs)]
        return what_was_kept(TrainEvent(kind, {"best_epoch": best}), SimpleNamespace(events=events))  # type: ignore[arg-type]

    assert ended("stopped", 3, 5) == (
        "Stopped after epoch 5 of 20. Kept: the model of epoch 3, the best on validation."
    )
    assert ended("finished", 18, 20) == "The model of epoch 18 of 20 is kept, the best on validation."
    assert ended("finished", 20, 20) == ""
    assert ended("stopped", 0, 0).startswith("Stopped. Kept")


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """The bundled model, and a copy with another last layer and nothing beside it."""
    old = find_model("default").path
    new = tmp_path / "new"
    new.mkdir()
    tensors = load_file(old / "weights.safetensors")
    name = next(key for key in tensors if key.startswith("classifier") and key.endswith("weight"))
    tensors[name] = tensors[name] + 1
    save_file(tensors, new / "weights.safetensors")
    card = json.loads((old / "model.json").read_text(encoding="utf-8"))
    card["weights_sha256"] = sha256_of(new / "weights.safetensors")
    card.pop("explanation_checks")
    (new / "model.json").write_text(json.dumps(card), encoding="utf-8")
    return old, new


def test_what_is_lost_is_named_and_what_still_fits_is_carried_over(copies: tuple[Path, Path]) -> None:
    old, new = copies
    assert abilities(old) == [MORPHOLOGY, FINER, HEATMAPS]
    assert lost(new, old) == [MORPHOLOGY, FINER, HEATMAPS]
    assert carry_over(new, old) == [MORPHOLOGY, FINER]
    assert lost(new, old) == [HEATMAPS]
    assert offered_fine_classes(new) == offered_fine_classes(old)
    assert carry_over(new, old) == []


def test_nothing_is_carried_over_to_other_features(copies: tuple[Path, Path]) -> None:
    old, new = copies
    tensors = load_file(new / "weights.safetensors")
    tensors["conv_stem.weight"] = tensors["conv_stem.weight"] * 1.01
    save_file(tensors, new / "weights.safetensors")
    assert carry_over(new, old) == []
    shutil.rmtree(new / "weights.safetensors", ignore_errors=True)
    (new / "weights.safetensors").write_bytes(b"broken")
    assert carry_over(new, old) == []


def test_the_heatmaps_of_a_new_model_are_checked_on_labelled_crops(
    copies: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = copies
    carry_over(new, old)
    folder = tmp_path / "crops"
    for cell, name in teaching_cells("synthetic_teaching_normal", default_scheme())[: LEAST_CROPS + 2]:
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture = teaching_picture("synthetic_teaching_normal", cell)
        Image.fromarray(picture).save(folder / name / f"{cell}.png")
    state = drain(iter_recheck(new, folder, "cpu"))
    assert state in ("trusted", "weak", "failed")
    assert lost(new, old) == []
    with pytest.raises(InputError, match="too few to check heatmaps"):
        for file in sorted(folder.rglob("*.png"))[2:]:
            file.unlink()
        drain(iter_recheck(new, folder, "cpu"))


def test_the_scale_of_crops_is_measured_once_for_all_comparisons(tmp_path: Path) -> None:
    crops = []
    for cell, name in teaching_cells("synthetic_teaching_normal", default_scheme())[:4]:
        file = tmp_path / f"{cell}.png"
        Image.fromarray(teaching_picture("synthetic_teaching_normal", cell)).save(file)
        crops.append(f"{file.name},{name},test")
    table = tmp_path / "test.csv"
    table.write_text("\n".join(["file,class,split", *crops]) + "\n", encoding="utf-8")
    session, token = Session(), CancelToken()
    drain(with_scales(table, session, "cpu", token))
    found = list_crops(table, session.scheme)
    assert [crop.split for crop in found] == ["test"] * 4
    # The pictures are 40 um wide and have 256 pixels.
    assert [crop.um_per_px for crop in found] == pytest.approx([40 / 256] * 4, rel=0.15)
