"""Papers as data, and a quick reproduction of each on a handful of crops."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from crops_for_training import save

from napari_leukocls.cli.reproduce import reproduce
from napari_leukocls.errors import ArgumentError, InputError
from napari_leukocls.evaluation.metrics import classification_metrics
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import CancelToken, drain
from napari_leukocls.reproduction import crops as crops_of_papers
from napari_leukocls.reproduction import plan
from napari_leukocls.reproduction.measured import _of_history, _of_metrics
from napari_leukocls.reproduction.papers import NAMES, Paper, paper
from napari_leukocls.reproduction.plan import Settings
from napari_leukocls.reproduction.report import beside
from napari_leukocls.reproduction.run import iter_evaluated, iter_reproduce
from napari_leukocls.training.config import TrainConfig, guesses, make_train_config, preset_settings

#: Too small to measure red cells in, which saves a segmentation.
SIDE = 56

#: Classes and patients of each paper's data.
DATA = {
    "s1": ("basophil", "erythroblast", "monocyte", "myeloblast", "seg_neutrophil"),
    "s2": ("basophil", "eosinophil", "lymphocyte"),
    "s3": ("all", "hem"),
    "s4": ("Fusiform", "Epithelioid", "Cobblestone", "Mixed"),
    "s5": ("Benign", "Early", "Pre", "Pro"),
}
#: Networks that are small enough for a test.
NETWORKS = {
    "s1": ("s1_efficientnet_b0",),
    "s2": ("customcnn_vit",),
    "s3": ("efficientnetv2_b3_se",),
    "s4": ("shufflenet_v2_x1_0",),
    "s5": ("resnet18", "resnet34"),
}


def make_data(folder: Path, name: str, each: int = 10) -> Path:
    """Coloured discs; leukaemic and healthy cells with their patients in the names."""
    random = np.random.default_rng(0)
    for number, class_name in enumerate(DATA[name]):
        colour = random.integers(30, 220, 3)
        for i in range(each):
            y, x = np.mgrid[:SIDE, :SIDE]
            image = np.full((SIDE, SIDE, 3), 235.0)
            centre, radius = random.uniform(22, 34, 2), random.uniform(10, 20)
            image[np.hypot(y - centre[0], x - centre[1]) < radius] = colour
            for _ in range(10):
                spot = random.uniform(0, SIDE, 2)
                image[np.hypot(y - spot[0], x - spot[1]) < random.uniform(2, 6)] = random.uniform(60, 220, 3)
            pixels = np.clip(image + random.normal(0, 12, image.shape), 0, 255).astype(np.uint8)
            patient = f"{'H' if class_name == 'hem' else ''}{i // 2 + 10 * number}"
            file = f"UID_{patient}_{i}_1_{class_name}.bmp" if name == "s3" else f"{i}.png"
            save(
                folder / "fold_0" / class_name / file if name == "s3" else folder / class_name / file, pixels
            )
    return folder


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer crops and calls than a quick reproduction has."""
    from napari_leukocls.reproduction import run

    monkeypatch.setattr(plan, "QUICK_CROPS", 10)
    monkeypatch.setattr(crops_of_papers, "QUICK_CROPS", 10)
    monkeypatch.setattr(run, "QUICK_BATCHES", (1, 2))
    monkeypatch.setattr(run, "QUICK_BUDGET_S", 0.5)


def asked(tmp_path: Path, name: str, **more: Any) -> Settings:
    data = make_data(tmp_path / "data", name)
    options: dict[str, Any] = {"networks": NETWORKS[name], "own_process": False, "device": "cpu"}
    return Settings(name, str(data), str(tmp_path / "out"), quick=True, **{**options, **more})


def by_command(settings: Settings) -> dict[str, Any]:
    """As a user does it: by the command, which trains in a process of its own."""
    words = [settings.paper, settings.data, "--out", settings.out, "--quick", "--device", "cpu", "--json"]
    words += [word for name in settings.networks for word in ("--network", name)]
    result = CliRunner().invoke(reproduce, words, catch_exceptions=False, standalone_mode=False)
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


@pytest.mark.parametrize("name", NAMES)
def test_a_quick_reproduction_writes_tables_and_figures(name: str, tmp_path: Path) -> None:
    settings = asked(tmp_path, name)
    out = tmp_path / "out"
    summary = by_command(settings) if name == "s4" else drain(iter_reproduce(settings))
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "These numbers are no result" in page and paper(name).title.replace("&", "&amp;") in page
    accuracy = [
        row for row in summary["rows"] if row["metric"] == "accuracy" and not row["data"] == "external"
    ]
    assert all(row["ours"] is not None for row in accuracy)
    ours = pd.read_csv(out / "tables" / "ours.csv")
    assert set(ours["network"]) == set(summary["networks"]) and ours["accuracy"].notna().any()
    first = summary["networks"][0]
    for file in ("history", "misclassified"):
        assert file == "misclassified" or (out / "figures" / f"{file}_{first}.png").is_file()
    assert any(note.startswith("crops: train ") for note in summary["notes"])
    other = any("not the paper's data (without" in note for note in summary["notes"])
    assert other == (name == "s2"), "three of the eight classes are there"
    for shared in ("roc_of_all", "maps_of_all", "augmentation"):
        assert (out / "figures" / f"{shared}.png").is_file(), shared
    with open(out / "crops.csv", newline="") as file_:
        parts = {row["file"]: row["split"] for row in csv.DictReader(file_)}
    predicted = pd.read_csv(out / "evaluations" / first / "predictions.csv")
    assert set(predicted["file"]) == {file for file, part in parts.items() if part == "test"}
    if name == "s3":
        again = drain(iter_reproduce(settings))
        assert again["rows"] == summary["rows"], "what is done is not done again"


def test_another_reproduction_is_not_mixed_in(tmp_path: Path) -> None:
    settings = asked(tmp_path, "s1")
    drain(_until_divided(iter_reproduce(settings), Path(settings.out)))
    with pytest.raises(InputError, match="other settings \\(trainings\\)"):
        drain(iter_reproduce(asked(tmp_path, "s1", minutes=1.0)))
    with pytest.raises(ArgumentError, match="no network of this paper"):
        drain(iter_reproduce(asked(tmp_path, "s1", networks=("resnet18",))))


def _until_divided(steps: Any, out: Path) -> Any:
    """The steps until the crops are divided."""
    for step in steps:
        yield step
        if (out / "crops.csv").is_file():
            steps.close()
            return


def test_a_paper_by_patient_needs_patients(tmp_path: Path) -> None:
    data = tmp_path / "plain"
    random = np.random.default_rng(0)
    for name in ("all", "hem"):
        for i in range(8):
            save(data / name / f"{i}.png", random.integers(0, 255, (70, 70, 3), dtype=np.uint8))
    settings = Settings("s3", str(data), str(tmp_path / "out"), quick=True, own_process=False)
    with pytest.raises(InputError, match="16 of 16 crops have no patient"):
        drain(iter_reproduce(settings))
    # The same folder takes the command again, with what it was refused for.
    again = replace(settings, allow_unknown_patients=True)
    drain(_until_divided(iter_reproduce(again), Path(settings.out)))
    assert (tmp_path / "out" / "crops.csv").is_file()


def test_data_of_another_kind_is_refused(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data", "s5", each=4)
    settings = Settings("s4", str(data), str(tmp_path / "out"), quick=True, own_process=False)
    with pytest.raises(InputError, match="none of the paper's sets of classes"):
        drain(iter_reproduce(settings))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_the_values_of_its_paper(name: str) -> None:
    """Each value that settings.csv gives with its table or section is the preset's; the others are named as guesses."""
    of = paper(name)
    config = make_train_config(of.preset, data="d", out="o")
    for stated in of.stated:
        value = getattr(config, stated.setting)
        plain = list(value) if isinstance(value, tuple) else value
        assert plain == stated.value, f"{stated.setting} ({stated.where})"
        assert stated.where
    known = {stated.setting for stated in of.stated}
    free = {"hflip", "vflip"} if name == "s2" else set()
    unexplained = set(preset_settings(of.preset)) - known - set(guesses(of.preset)) - free - _HOUSE
    assert not unexplained, f"neither stated nor named as a guess: {sorted(unexplained)}"
    assert set(guesses(of.preset)) <= set(TrainConfig.model_fields)
    assert not (set(guesses(of.preset)) & known), "stated settings are no guesses"


def text_of(name: str) -> str:
    """What of the paper's text was at hand, with single spaces."""
    files = sorted((Path(__file__).parents[3] / "shared" / "seeds").glob("*.txt"))
    if len(files) < len(NAMES):
        pytest.skip("needs the papers' texts at ../shared/seeds")
    return " ".join(files[NAMES.index(name)].read_text(encoding="utf-8").split())


@pytest.mark.parametrize("name", NAMES)
def test_the_papers_text_has_what_is_quoted_and_reported(name: str) -> None:
    text = text_of(name)
    for stated in paper(name).stated:
        assert stated.quote in text, stated
        assert stated.quote or "(" in stated.where, f"{stated.setting}: neither a quote nor why there is none"
    for one in paper(name).published:
        value = one.value
        forms = {f"{value:g}", f"{value:.2f}", f"{value:.3f}", f"{value:.4f}", f"{100 * value:.2f}"}
        forms |= {f"{100 * value:.1f}", f"{value:,.0f}", f"{value / 1e6:g}", f"{value / 1e6:.2f}"}
        # Hours and minutes are written out; 89 % fewer parameters are 0.11 of them.
        derived = one.metric == "share_of_vgg16" or (name == "s4" and one.metric == "training_min")
        found = any(re.search(rf"(?<![\d.]){re.escape(form)}(?!\d)", text) for form in forms)
        assert found or derived, one


#: Settings that the papers leave to their programs: torch and Keras decay all parameters, the stain is the project's.
_HOUSE = {"decay_all", "stain", "optimiser"}


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_are_of_known_networks_and_metrics(name: str) -> None:
    of = paper(name)
    for one in of.published:
        assert one.network in (*of.networks, *of.ablations) and one.item in of.items and one.where
        assert not one.data or one.data == "external" or one.data in of.sets
        assert np.isfinite(one.value)


def test_published_numbers_agree_with_themselves() -> None:
    """Numbers that the papers' own tables can be checked by."""
    value = {(one.network, one.class_name, one.metric, one.data): one.value for one in paper("s1").published}
    for network in ("s1_efficientnet_b0", "s1_convnext_tiny"):
        ms, f1 = (value[network, "", name, ""] for name in ("ms_per_image_batch1", "macro_f1"))
        assert value[network, "", "f1_per_ms_batch1", ""] == pytest.approx(f1 / ms, abs=2e-4)
        assert value[network, "", "images_per_s_batch1", ""] == pytest.approx(1000 / ms, rel=2e-3)
    second = {(one.network, one.metric): one.value for one in paper("s2").published if not one.class_name}
    for network in paper("s2").networks:
        per_min = second[network, "accuracy"] / second[network, "training_min"]
        assert second[network, "accuracy_per_min"] == pytest.approx(per_min, abs=2e-4)


def test_the_trainings_of_a_paper(tmp_path: Path) -> None:
    settings = Settings(
        "s5", "d", str(tmp_path), ablations=True, weights={"cadbcnn": ("resnet18=a", "resnet34=b")}
    )
    made = {run.name: run.config for run in plan.runs(settings, tmp_path / "crops.csv")}
    assert list(made)[0] == "cadbcnn" and "cadbcnn-no-augmentation" in made
    assert not made["cadbcnn-no-augmentation"].augmentation and made["cadbcnn"].augmentation
    assert made["cadbcnn"].weights == ("resnet18=a", "resnet34=b") and made["resnet34"].weights == ()
    quick = {
        run.name: run.config for run in plan.runs(Settings("s4", "d", str(tmp_path), quick=True), tmp_path)
    }
    assert {config.epochs for config in quick.values()} == {1} and len(quick) == 8
    assert quick["vit_base_patch16_224"].arguments == {"img_size": 64}
    third = {
        run.name: run.config for run in plan.runs(Settings("s3", "d", str(tmp_path), quick=True), tmp_path)
    }
    assert list(third) == ["efficientnetv2_b3_se", "efficientnetv2_b3_no_se", "vgg16"]
    assert {config.group_by for config in third.values()} == {"patient"}
    whole = {run.name: run.config for run in plan.runs(Settings("s4", "d", str(tmp_path)), tmp_path)}
    assert (whole["qlvit"].epochs, whole["resnet50"].epochs, whole["resnet50"].pretrained) == (500, 50, True)


def test_the_table_of_real_results_holds_out_what_no_model_has_seen(tmp_path: Path) -> None:
    from scripts.paper_results import hold_out, make_table

    rows = [f"{name}/{name}_{i}.jpg,{name}" for name in ("basophil", "monocyte") for i in range(200)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,class", *rows]))
    make_table(tmp_path, tmp_path / "crops.csv", None)
    table = pd.read_csv(tmp_path / "crops.csv")
    test = {Path(file).name for file in table.loc[table["split"] == "test", "file"]}
    assert test == {Path(file).name for file in table["file"] if hold_out(Path(file).name)}
    shares = table["split"].value_counts(normalize=True)
    assert 0.12 < shares["test"] < 0.28 and 0.04 < shares["validation"] < 0.13


def test_the_page_says_what_is_not_trained_to_its_end() -> None:
    from scripts.paper_results import page_text

    figures = {
        "n": 40,
        "accuracy": 0.9,
        "accuracy_low": 0.8,
        "accuracy_high": 0.95,
        "macro_f1": 0.9,
        "ece": 0.02,
    }
    figures |= {"ece_before": 0.03, "ms_per_image_batch1": 7.0}
    trained = {
        "start": "scratch",
        "side_px": 96,
        "epochs": 2,
        "epochs_asked": 3,
        "stopped": True,
        "training_min": 20,
    }
    rows = [
        {"model": "s5_cadbcnn", **figures, **trained},
        {"model": "default", **figures, "start": "shipped", "side_px": 128},
    ]
    text = page_text(pd.DataFrame(rows))
    assert "| `s5_cadbcnn` | scratch | 96 |" in text and "| 2 of 3, time over | 20 |" in text
    assert "97.66 % on its own split; here, none has more" in text
    assert "ended the training of `s5_cadbcnn` before its last epoch" in text
    assert "Not trained in this run: `s1_efficientnet_b0`" in text and "`default` | shipped | 128" in text


def test_our_numbers_stand_beside_the_papers() -> None:
    of: Paper = paper("s1")
    ours = {
        ("s1_convnext_tiny", "", "", "accuracy"): 0.9,
        ("s1_convnext_tiny", "", "segmented_neutrophil", "f1"): 0.8,
    }
    rows = beside(of, ours, ["s1_convnext_tiny"])
    found = {(row["metric"], row["class"]): row for row in rows if row["data"] == ""}
    assert found["accuracy", ""]["difference"] == pytest.approx(0.9 - 0.992)
    assert found["f1", "segmented neutrophil"]["ours"] == 0.8
    assert found["mcc", ""]["ours"] is None
    assert not any(row["network"] == "s1_efficientnet_b0" for row in rows)
    fourth = beside(paper("s4"), {("qlvit", "", "", "accuracy"): 0.9}, ["qlvit"], "hep-2")
    assert [row["paper"] for row in fourth if row["metric"] == "accuracy"] == [0.9735]


def test_every_metric_of_the_papers_can_be_measured() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 200)
    scores = random.dirichlet(np.ones(3), 200)
    metrics = classification_metrics(
        [f"c{i}" for i in truth], scores, ["c0", "c1", "c2"], n_boot=0, temperature=1.2
    )
    names = ("ece", "mce", "adaptive_ece", "brier_mean", "log_loss", "sharpness")
    rows = {name: {**row, "temperature": 1.1} for name, row in metrics["per_class"].items()}
    before = dict.fromkeys(names, 0.1) | {"per_class": rows, "brier_parts": metrics["brier_parts"]}
    found = _of_metrics(metrics | {"before_temperature": before})
    assert all(value is not None for value in found.values())
    known = {metric for _, metric in found} | {
        *("ms_per_image_batch1", "images_per_s_batch1", "f1_per_ms_batch1", "parameters", "gmacs", "mib"),
        *("training_min", "epochs", "val_accuracy", "parameters_frozen", "randomisation_r", "occlusion_drop"),
        *("occlusion_random_drop", "accuracy_per_min", "share_of_vgg16"),
        *("accuracy_gap", "val_loss_change_sd", "val_macro_f1_epoch_1", "epochs_to_f1_0.9"),
    }
    asked_for = {one.metric for name in NAMES for one in paper(name).published}
    assert asked_for <= known, sorted(asked_for - known)


def test_a_report_of_other_weights_is_not_taken(tmp_path: Path) -> None:
    """A network that was trained again in the same folder had the figures of the one before."""
    model = find_model("default").path
    (tmp_path / "report.html").write_text("<html></html>")
    steps = []
    for digest in (sha256_of(model / "weights.safetensors"), "0" * 64):
        (tmp_path / "metrics.json").write_text(json.dumps({"weights_sha256": digest}))
        data = make_data(tmp_path / digest[:4], "s2", each=1)
        steps.append(next(iter_evaluated(model, data, tmp_path, "cpu", CancelToken()), None))
    assert steps[0] is None and steps[1] is not None


def test_the_course_of_a_training_in_figures(tmp_path: Path) -> None:
    rows = ["1,0.5,0.6,0.9,0.55", "2,0.8,0.7,0.5,0.91", "3,0.9,0.9,0.4,0.89", "4,0.9,0.95,0.38,0.95"]
    (tmp_path / "history.csv").write_text(
        "\n".join(["epoch,accuracy,val_accuracy,val_loss,val_macro_f1", *rows])
    )
    found = _of_history(tmp_path / "history.csv")
    assert found["accuracy_gap"] == pytest.approx(np.mean([0.1, 0.1, 0, 0.05]))
    assert found["val_loss_change_sd"] == pytest.approx(np.std([-0.4, -0.1, -0.02], ddof=1))
    assert (found["val_macro_f1_epoch_1"], found["epochs_to_f1_0.9"]) == (0.55, 2)


def test_weights_of_a_network_are_named(tmp_path: Path) -> None:
    words = ["s5", str(tmp_path), "--out", str(tmp_path / "out"), "--weights", "x"]
    with pytest.raises(ArgumentError, match="is not NETWORK:FILE"):
        CliRunner().invoke(reproduce, words, catch_exceptions=False, standalone_mode=False)
