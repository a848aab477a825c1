"""The command line as a shell sees it: statuses, streams, and how quick it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from napari_leukocls.batch.job import SlideOutcome
from napari_leukocls.cli.analyze import _print_outcomes

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "cellpose",
    "pandas",
    "pydantic",
    "scipy",
    "skimage",
    "matplotlib",
    "napari",
)


def leukocls(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "napari_leukocls", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        timeout=120,
    )


def one_line(text: str) -> str:
    """The only line of an error message."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models of the user's, with one card."""
    folder = tmp_path / "models"
    (folder / "mine").mkdir(parents=True)
    card = {
        "name": "mine",
        "architecture": "small_net",
        "classes": ["neutrophil", "lymphocyte"],
        "licence": "MIT",
        "input_size": [64, 64],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "crop": {"side_um": 22.4, "side_px": 64},
    }
    (folder / "mine" / "model.json").write_text(json.dumps(card))
    monkeypatch.setenv("LEUKOCLS_MODELS", str(folder))
    return folder


@pytest.mark.parametrize(
    "what", ["-m napari_leukocls --help", "-m napari_leukocls models list", "-c import_it"]
)
def test_nothing_heavy_is_imported(what: str) -> None:
    start = what.split(" ", 1)
    words = ["-c", "import napari_leukocls"] if start[0] == "-c" else ["-m", *start[1].split()]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words], capture_output=True, text=True, cwd=ROOT, check=True
    )
    modules = {
        line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line
    }
    assert "napari_leukocls" in modules
    assert not modules & set(HEAVY)


def test_help_names_every_command() -> None:
    text = leukocls("--help").stdout
    for command in "analyze models train evaluate compare promote audit explain benchmark demo".split():
        assert f"\n  {command} " in text
    assert "not for diagnosis" in text


def test_version() -> None:
    from napari_leukocls import __version__

    assert __version__ in leukocls("--version").stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("analyse", "a.png"), "did you mean 'analyze'?"),
        (("analyze", "a.png"), "Missing option '--out'"),
        (("analyze", "--out", "x"), "Missing argument 'INPUT...'"),
        (("analyze", "a.png", "--out", "x", "--device", "tpu"), "'tpu' is not one of"),
        (("analyze", "a.png", "--out", "x", "--min-confidence", "2"), "min_confidence"),
        (("analyze", "a.png", "--out", "x", "--depth", "finest"), "'finest' is not one of 'classes', 'fine'"),
        (("analyze", "a.png", "--out", "x", "--format", "csv,geojsn"), "did you mean 'geojson'?"),
        (
            ("analyze", "a.png", "--out", "x", "--diameter-px", "80", "--pixel-size-um", "0.1"),
            "give either a red-cell",
        ),
        (("analyze", "a.png", "--out", "x", "--pixel-size-um", "3.45"), "pixel_size_um"),
        (("analyze", "", "--out", "x"), "an input is empty"),
        (("analyze", "a.png", "--out", "x", "--classifier", ""), "classifier"),
        (("analyze", "a.png", "--out", "x", "--as-slide", " "), "--as-slide is empty"),
        (("models", "info", "nix"), "there is no model 'nix'"),
        (("evaluate", "nix", "data", "--out", "x"), "there is no model 'nix'"),
    ],
)
def test_bad_arguments_are_one_line_and_status_2(words: tuple[str, ...], says: str) -> None:
    done = leukocls(*words)
    assert done.returncode == 2 and done.stdout == ""
    assert says in one_line(done.stderr)


def test_no_arguments_show_the_help() -> None:
    done = leukocls()
    assert done.returncode == 2 and "Commands:" in done.stderr


def test_debug_shows_the_traceback() -> None:
    for words in (("--debug", "models", "info", "nix"), ("models", "info", "nix", "--debug")):
        done = leukocls(*words)
        assert done.returncode != 0
        assert "Traceback" in done.stderr and "ModelError" in done.stderr


def test_an_output_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = leukocls("analyze", "a.png", "--out", str(tmp_path / "file" / "out"))
    assert done.returncode == 2
    assert "is a file, not a folder; choose another output folder" in one_line(done.stderr)


def test_models_are_listed_and_shown(own_models: Path) -> None:
    rows = json.loads(leukocls("models", "list", "--json").stdout)
    (mine,) = [row for row in rows if row["name"] == "mine"]
    assert mine["origin"] == "environment" and mine["classes"] == ["neutrophil", "lymphocyte"]
    assert "mine" in leukocls("models", "list").stdout
    text = leukocls("models", "info", "mine").stdout
    assert "architecture: small_net" in text and "licence: MIT" in text
    assert (
        "classes: 2: neutrophil, lymphocyte" in text and "to review: cells with a probability below" in text
    )
    assert "{" not in text, "a person reads it"
    assert json.loads(leukocls("models", "info", "mine", "--json").stdout)["name"] == "mine"


def test_the_nearest_model_is_suggested(own_models: Path) -> None:
    done = leukocls("models", "info", "mien")
    assert done.returncode == 2
    assert one_line(done.stderr).endswith("there is no model 'mien'; did you mean 'mine'?")


def test_a_broken_card_is_said_and_does_not_hide_the_others(own_models: Path) -> None:
    (own_models / "broken").mkdir()
    (own_models / "broken" / "model.json").write_text("{")
    (own_models / "nothing").mkdir()
    (own_models / "nothing" / "model.json").write_text('{"classes": null}')
    done = leukocls("models", "list")
    assert done.returncode == 0 and "mine" in done.stdout and "is not valid JSON" in done.stdout
    done = leukocls("models", "info", "broken")
    assert done.returncode == 2 and "is not valid JSON" in one_line(done.stderr)
    done = leukocls("models", "info", "nothing")
    assert done.returncode == 2 and "is wrong at" in one_line(done.stderr)


def test_a_reader_that_goes_away_is_no_error(own_models: Path) -> None:
    command = f"{sys.executable} -m napari_leukocls models info mine --json | head -c 1 >/dev/null"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stderr == ""


def test_a_warning_of_many_slides_is_printed_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = [
        SlideOutcome(f"s{n}", "done", None, 1.0, 5, 1, n % 2, ("too few red cells",) + ("odd",) * (n == 2))
        for n in range(5)
    ]
    _print_outcomes(tmp_path, outcomes, 0)
    printed = capsys.readouterr()
    assert "s1: 5 cells, 1 leukocyte counted, 1 to review (1.0 s)" in printed.out
    assert printed.err.splitlines() == [
        "leukocls: s2: warning: odd",
        "leukocls: 5 slides (s0, s1, s2, ...): warning: too few red cells",
    ]
