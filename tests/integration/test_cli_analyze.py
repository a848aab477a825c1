"""``leukocls analyze`` and ``demo`` from the shell, with the bundled models, on good and bad input."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_leukocls.paths import sample_smear
from tests.results import model_with_head

ROOT = Path(__file__).resolve().parents[2]
SLIDE_FILES = {
    *(
        "counts.csv",
        "cells.csv",
        "findings.csv",
        "labels.tif",
        "outlines.json",
        "overlay.png",
        "red_cells.csv",
    ),
    *("report.html", "run.json"),
}


def leukocls(*words: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run(
        [sys.executable, "-m", "napari_leukocls", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )


def table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as it comes from a lab: two good fields among what is none."""
    folder = tmp_path_factory.mktemp("in put µ")
    field = Image.open(sample_smear()).crop((0, 0, 640, 480))
    field.save(folder / "good.png")
    field.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "=1+1.png")
    Image.new("RGB", (640, 480), "white").save(folder / "white.png")
    (folder / "text.png").write_text("not an image")
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "good.png").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no image, and not looked at")
    (folder / "more").mkdir()
    field.save(folder / "more" / "good.bmp")
    return folder


@pytest.fixture(scope="module")
def run(
    inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    """One run over the folder, a further one of the same stem, and a file that is missing."""
    out = tmp_path_factory.mktemp("run") / "out"
    words = ("--pixel-size-um", "0.16", "--json")
    return leukocls(
        "analyze", str(inputs), str(inputs / "more"), "missing.png", "--out", str(out), *words
    ), out


def test_a_run_that_is_refused_leaves_no_empty_folder(inputs: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rules]]\nname = "a"\nany_of = ["a"]\n', encoding="utf-8")
    out, kept = tmp_path / "new", tmp_path / "old"
    kept.mkdir()
    for folder in (out, kept):
        done = leukocls("analyze", str(inputs / "good.png"), "--out", str(folder), LEUKOCLS_RULES=str(rules))
        assert done.returncode != 0
        assert "in a circle (a -> a)" in done.stderr
    assert not out.exists()
    # A folder that the user made stays.
    assert kept.is_dir()


def test_what_failed_is_listed_and_the_rest_is_done(
    run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, out = run
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    failures = {row["slide_id"]: row["error"] for row in table(out / "failures.csv")}
    assert set(failures) == {"text", "empty", "cut", "missing"}
    for slide, error in failures.items():
        assert f"leukocls: {slide}: {error}" in done.stderr.splitlines()
        assert not (out / slide).exists()
    assert [row["slide_id"] for row in table(out / "summary.csv")] == ["'=1+1", "good", "good_2", "white"]


def test_every_slide_has_all_its_files_and_nothing_is_left_over(
    run: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, out = run
    for slide in ("=1+1", "good", "good_2", "white"):
        # There are outlines of their own only where a cell lies under another.
        assert {path.name for path in (out / slide).iterdir()} | {"outlines.json"} == SLIDE_FILES
    assert {path.name for path in out.iterdir()} == {
        *("=1+1", "good", "good_2", "white", "summary.csv", "failures.csv", "manifest.json")
    }


def test_json_goes_to_standard_output_alone(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, out = run
    summary = json.loads(done.stdout)
    assert (summary["done"], summary["failed"], summary["out"]) == (4, 4, str(out))
    by_id = {slide["slide_id"]: slide for slide in summary["slides"]}
    assert by_id["good"]["n_cells"] > 20 and by_id["good"]["source"].endswith("good.png")
    assert by_id["cut"]["status"] == "failed"


def test_a_field_without_cells_is_a_result(run: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, out = run
    assert {row["count"] for row in table(out / "white" / "counts.csv")} == {"0"}
    assert table(out / "white" / "cells.csv") == []
    assert any(
        "no cell was found" in warning
        for warning in json.loads((out / "white" / "run.json").read_text())["warnings"]
    )


def test_a_clean_second_run_removes_the_list_of_failures(
    run: tuple[subprocess.CompletedProcess[str], Path], inputs: Path
) -> None:
    _, out = run
    done = leukocls("analyze", str(inputs / "good.png"), "--out", str(out), "--pixel-size-um", "0.16")
    assert done.returncode == 0, done.stderr
    assert not (out / "failures.csv").exists()
    assert "1 of 1 slide done" in done.stdout


def test_finer_classes_sum_to_the_classes_that_are_counted_without_them(
    run: tuple[subprocess.CompletedProcess[str], Path], inputs: Path, tmp_path: Path
) -> None:
    _, out = run
    words = ("--pixel-size-um", "0.16", "--depth", "fine", "--format", "geojson,fhir")
    words += ("--classifier", str(model_with_head(tmp_path / "models") / "default"))
    done = leukocls("analyze", str(inputs / "good.png"), "--out", str(tmp_path), *words)
    assert done.returncode == 0, done.stderr
    fine, plain = table(tmp_path / "good" / "counts.csv"), table(out / "good" / "counts.csv")
    wholes = [row for row in fine if row["part_of"] == ""]
    assert [{k: v for k, v in row.items() if k != "part_of"} for row in wholes] == plain
    for whole in ("neutrophil", "immature_granulocyte"):
        parts = [row for row in fine if row["part_of"] == whole]
        (total,) = (int(row["count"]) for row in plain if row["class"] == whole)
        assert len(parts) > 2 and sum(int(row["count"]) for row in parts) == total
    columns = list(table(out / "good" / "cells.csv")[0])
    cells = table(tmp_path / "good" / "cells.csv")
    assert [{name: row[name] for name in columns} for row in cells] == table(out / "good" / "cells.csv")
    settings = json.loads((tmp_path / "good" / "run.json").read_text())
    assert settings["settings"]["depth"] == "fine" and len(settings["classifier"]["fine_classes"]) == 5


def test_a_model_without_finer_classes_is_refused_at_that_depth(inputs: Path, tmp_path: Path) -> None:
    model = model_with_head(tmp_path / "models") / "default"
    (model / "fine_classes.json").unlink()
    words = ("--classifier", str(model), "--depth", "fine")
    done = leukocls("analyze", str(inputs / "good.png"), "--out", str(tmp_path / "out"), *words)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert "'default' does not tell finer classes apart" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--samples", "nothing.csv"), "nothing.csv cannot be read"),
        (("--classifier", "defualt"), "did you mean 'default'"),
        (("--segmenter", "compakt"), "did you mean compact"),
        (("--device", "cuda"), "no cuda device"),
    ],
)
def test_a_set_up_that_cannot_be_is_one_line_and_status_2(
    inputs: Path, tmp_path: Path, words: tuple[str, str], says: str
) -> None:
    import torch

    if words[1] == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU, so asking for one is no error")
    done = leukocls("analyze", str(inputs / "good.png"), "--out", str(tmp_path / "out"), *words)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert says in line
    assert not (tmp_path / "out").exists()


def test_the_demo_prints_a_differential_and_names_the_report(tmp_path: Path) -> None:
    done = leukocls("demo", "--out", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    assert "neutrophil" in done.stdout and "not for diagnosis" in done.stdout
    assert "cells are left out (" in done.stdout
    report = done.stdout.strip().splitlines()[-1].removeprefix("The report is ")
    assert Path(report).is_file()
    assert_the_drawn_leukocytes_are_named(Path(report).parent)


def assert_the_drawn_leukocytes_are_named(folder: Path) -> None:
    """Four of five, and of the lymphocytes too: a demo that miscalls a whole class teaches the wrong thing."""
    drawn = sample_smear()
    truth = {row["cell_id"]: row for row in table(drawn.with_name(f"{drawn.stem}_truth.csv"))}
    found, labels = (
        tifffile.imread(file) for file in (folder / "labels.tif", drawn.with_name(f"{drawn.stem}_labels.tif"))
    )
    said = {row["cell_id"]: row["predicted_class"] for row in table(folder / "cells.csv")}
    right: dict[str, list[bool]] = {}
    for cell, row in truth.items():
        if row["kind"] != "leukocyte":
            continue
        under = found[labels == int(cell)]
        name = said.get(str(np.bincount(under).argmax()), "none")
        kind = row["class"].removeprefix("segmented_").removeprefix("band_")
        right.setdefault(kind, []).append(name == kind)
    everyone = [one for ones in right.values() for one in ones]
    assert sum(everyone) >= 0.8 * len(everyone)
    assert sum(right["lymphocyte"]) >= 0.7 * len(right["lymphocyte"])


def test_models_are_whole() -> None:
    for name in ("default", "compact"):
        done = leukocls("models", "verify", name)
        assert done.returncode == 0, done.stderr
        assert f"{name} is whole" in done.stdout
