"""Models compared: common shared of classes, fair timing, and tests that find what is there and no more."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from napari_leukocls.errors import ArgumentError, ModelError
from napari_leukocls.evaluation.compare import ComparedModel, compare, write_comparison
from napari_leukocls.evaluation.figures import pareto_figure, rendered
from napari_leukocls.evaluation.shared_classes import (
    OTHER,
    SharedCrops,
    common_classes,
    project,
    shared_crops,
)
from napari_leukocls.evaluation.significance import compare_repeats, read_repeats
from napari_leukocls.evaluation.speed import Speed, Timing, measure_speed, pareto
from napari_leukocls.scheme import default_scheme

CLASSES = ("neutrophil", "lymphocyte", "monocyte")
coarsen = default_scheme().coarsen


def test_a_finer_class_stands_for_the_coarser() -> None:
    fine = ("lymphocyte", "segmented_neutrophil", "band_neutrophil", "blast")
    classes = common_classes([CLASSES, fine], coarsen)
    assert classes == ("neutrophil", "lymphocyte")
    assert common_classes([fine, CLASSES], coarsen) == ("lymphocyte", "neutrophil")
    shared = shared_crops(["band_neutrophil", "monocyte", "lymphocyte", "odd"], classes, coarsen)
    assert list(shared.rows) == [0, 2] and list(shared.truth) == [0, 1]
    probabilities = np.array([[0.1, 0.3, 0.4, 0.2], [0, 0, 0, 1], [0.6, 0.1, 0.1, 0.2], [1, 0, 0, 0]])
    assert project(shared, probabilities, fine, coarsen) == pytest.approx(
        np.array([[0.7, 0.1, 0.2], [0.2, 0.6, 0.2]])
    )
    assert shared.columns[-1] == OTHER and shared.count(0) == 1


def test_classes_of_ones_own_need_no_scheme() -> None:
    assert common_classes([("odd", "cell"), ("cell", "odd")], coarsen) == ("odd", "cell")
    assert common_classes([("odd", "cell"), ("thing",)], coarsen) == ()


def test_models_take_turns_and_the_best_batch_is_found() -> None:
    calls: list[tuple[str, int]] = []

    def work(name: str, fixed: float, each: float) -> object:
        def run(batch: int, turn: int) -> None:
            calls.append((name, batch))
            clock[0] += fixed + each * batch

        return run

    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_leukocls.evaluation.speed.time.perf_counter", lambda: clock[0])
        found = measure_speed(
            {"steady": work("steady", 0.0, 0.01), "batched": work("batched", 0.1, 0.001)}, (1, 8), repeats=3
        )
    assert found["steady"].single.ms == pytest.approx(10)
    assert found["batched"].best == Timing(8, pytest.approx(13.5), pytest.approx((13.5, 13.5)))
    assert found["batched"].single.ms == pytest.approx(101)
    assert found["batched"].best.images_per_s == pytest.approx(1000 / 13.5)
    timed = [name for name, batch in calls[8:] if batch == 1]
    assert timed == ["steady", "batched"] * 3, "in turns"


def test_slow_models_are_timed_less_often() -> None:
    clock = [0.0]

    def slow(batch: int, turn: int) -> None:
        clock[0] += 5.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_leukocls.evaluation.speed.time.perf_counter", lambda: clock[0])
        assert measure_speed({"slow": slow})["slow"].repeats == 7
    with pytest.raises(ArgumentError, match="must include 1"):
        measure_speed({"slow": slow}, (8,))


def test_large_batches_are_not_tried_where_they_would_take_minutes() -> None:
    """On a busy machine the timing took longer than all the rest of a comparison."""
    clock, tried = [0.0], set()

    def slow(batch: int, turn: int) -> None:
        tried.add(batch)
        clock[0] += 0.5 * batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari_leukocls.evaluation.speed.time.perf_counter", lambda: clock[0])
        found = measure_speed({"slow": slow, "other": slow})
    assert tried == {1, 4, 8} and found["slow"].best.batch in tried


def test_the_front_of_pareto() -> None:
    ms, f1 = np.array([1.0, 2.0, 3.0, 2.0, 1.0]), np.array([0.90, 0.95, 0.94, 0.93, 0.90])
    assert list(pareto(ms, f1)) == [True, True, False, False, True]


def contestant(name: str, truth: np.ndarray, wrong: np.ndarray, ms: float) -> ComparedModel:
    """A model that takes some crops for the next class."""
    said = np.where(wrong, (truth + 1) % 3, truth)
    probabilities = np.full((len(truth), 4), 0.1)
    probabilities[:, 3] = 0
    probabilities[np.arange(len(truth)), said] = 0.8
    timing = Timing(8, ms, (0.9 * ms, 1.1 * ms))
    facts = {"architecture": "net", "parameters": 10, "mb": 1.0, "gmacs": 0.1, "weights_sha256": "0"}
    facts |= {"training_s": 90.0 if name == "good" else None, "training_accuracy": None}
    return ComparedModel(
        name, probabilities, np.zeros(len(truth), bool), np.zeros(len(truth)), Speed(timing, timing, 7), facts
    )


def a_comparison() -> dict:
    truth = np.tile([0, 1, 2], 100)
    shared = SharedCrops(CLASSES, np.arange(300), truth)
    rng = np.random.default_rng(0)
    good, same, bad = (rng.random(300) < share for share in (0.02, 0.02, 0.15))
    models = [contestant("good", truth, good, 2.0), contestant("same", truth, same, 3.0)]
    return compare(shared, [*models, contestant("<i>bad</i>", truth, bad, 1.0)])


def test_what_is_there_is_found_and_no_more() -> None:
    result = a_comparison()
    better = {(row["first"], row["second"]): row["better"] for row in result["pairs"]}
    assert better == {("good", "same"): None, ("good", "<i>bad</i>"): "good", ("same", "<i>bad</i>"): "same"}
    row = result["pairs"][1]
    models = {row["model"]: row for row in result["models"]}
    difference = models["<i>bad</i>"]["accuracy"] - models["good"]["accuracy"]
    assert row["accuracy_difference"] == pytest.approx(difference)
    assert row["only_second_right"] - row["only_first_right"] == pytest.approx(300 * difference)
    low, high = row["macro_f1_difference_ci95"]
    assert row["macro_f1_difference"] == pytest.approx(
        models["<i>bad</i>"]["macro_f1"] - models["good"]["macro_f1"]
    )
    assert low < models["<i>bad</i>"]["macro_f1"] - models["good"]["macro_f1"] < high < 0
    assert row["p_mcnemar"] < row["p_holm"] < 0.001
    assert set(row["auc"]) == set(CLASSES) and row["auc"]["monocyte"]["p_delong"] < 0.05
    assert [models[name]["pareto"] for name in ("good", "same", "<i>bad</i>")] == [
        True,
        models["same"]["macro_f1"] > models["good"]["macro_f1"],
        True,
    ]


def test_files_of_a_comparison(tmp_path: Path) -> None:
    result = a_comparison() | {"notes": ["a note"], "device": "cpu", "data": "x", "skipped": []}
    paths = write_comparison(tmp_path / "out", result)
    assert set(paths) == {"compare.csv", "compare.json", "report.html", "pareto.png", "pareto.svg"}
    table = pd.read_csv(paths["compare.csv"])
    assert list(table["model"]) == ["good", "same", "<i>bad</i>"]
    for column in (
        "macro_f1_ci95_low",
        "ms_per_image",
        "ms_per_image_q1",
        "f1_per_ms",
        "f1_per_ms_batch1",
        "images_per_s_batch1",
        "macro_precision",
        "macro_precision_ci95_low",
        "training_s",
        "training_accuracy",
        "recall_monocyte",
        "pareto",
    ):
        assert column in table
    assert json.loads(paths["compare.json"].read_text())["n"] == 300
    page = paths["report.html"].read_text(encoding="utf-8")
    assert "<i>bad" not in page and "&lt;i&gt;bad" in page and "not significant" in page
    assert page.count("data:image/png;base64,") == 1


@pytest.mark.parametrize(("slower", "scale"), [(1.2, "linear"), (40.0, "log")])
def test_the_pareto_figure_can_be_read(slower: float, scale: str) -> None:
    rows = [
        {
            "model": name,
            "ms_per_image": ms,
            "ms_per_image_quartiles": [0.9 * ms, 1.2 * ms],
            "macro_f1": 0.9,
            "macro_f1_ci95": [0.85, 0.93],
            "pareto": name == "$a",
        }
        for name, ms in (("$a", 10.0), ("_b$", 10.0 * slower))
    ]
    made = pareto_figure(rows)
    axes = made.axes[0]
    svg = rendered(made, "svg").decode()
    assert axes.get_xscale() == scale
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [r"\$a", r" _b\$"]
    assert ">$a<" in svg and "mathdefault" not in svg and svg.count("10<") >= 1


def test_a_model_that_says_something_else_altogether_is_wrong() -> None:
    """What goes to no common class counts as wrong, not as the next best class."""
    truth = np.tile([0, 1, 2], 20)
    shared = SharedCrops(CLASSES, np.arange(60), truth)
    right = contestant("right", truth, np.zeros(60, bool), 1.0)
    odd = contestant("odd", truth, np.zeros(60, bool), 1.0)
    odd.probabilities[truth == 0] = [0.3, 0.1, 0.1, 0.5]
    result = compare(shared, [right, odd])
    assert result["models"][1]["accuracy"] == pytest.approx(2 / 3)
    assert result["models"][1]["per_class"]["neutrophil"]["recall"] == 0
    assert OTHER not in result["models"][1]["per_class"]
    assert result["pairs"][0]["better"] == "right"


def repeats(folder: Path, parts: str, shift: float) -> Path:
    """A model's folder with ``repeats.csv`` beside it: one row a test part, named by a letter."""
    (folder / "model").mkdir(parents=True)
    rng = np.random.default_rng(3)
    rows = [f"{n},800,200,{0.9 + shift + 0.01 * rng.random():.6f},{part}" for n, part in enumerate(parts, 1)]
    text = "repeat,n_train,n_test,macro_f1,test_sha256\n" + "\n".join(rows) + "\n"
    (folder / "repeats.csv").write_text(text)
    return folder / "model"


def test_repeats_are_paired_by_their_test_part(tmp_path: Path) -> None:
    first, second = repeats(tmp_path / "a", "abcdefgh", 0.0), repeats(tmp_path / "b", "abcdefghij", 0.03)
    found = compare_repeats(read_repeats(first), read_repeats(second))
    assert found is not None and found["n"] == 8
    assert found["second"] - found["first"] == pytest.approx(0.03, abs=1e-5)
    assert found["p_wilcoxon"] == pytest.approx(2 / 2**8), "all eight in one direction"
    assert compare_repeats(read_repeats(first), {}) is None
    assert read_repeats(tmp_path) == {}
    (tmp_path / "a" / "repeats.csv").write_text("repeat,macro_f1\n1,x\n")
    with pytest.raises(ModelError, match="cannot be read"):
        read_repeats(first)
