"""Batches: resumed, in several processes, on a cluster, killed, and out of disk."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_leukocls.batch import run_batch
from napari_leukocls.config import AnalyzeConfig, make_config
from napari_leukocls.errors import ArgumentError, Cancelled
from napari_leukocls.io.inputs import SlideInput, expand_inputs
from napari_leukocls.paths import bundled_dir, sample_smear
from napari_leukocls.progress import CancelToken, Progress
from napari_leukocls.results.reader import read_slide

ROOT = Path(__file__).resolve().parents[2]
TABLES = ("cells.csv", "counts.csv")


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four small fields and one file that is none."""
    folder = tmp_path_factory.mktemp("fields")
    smear = Image.open(sample_smear())
    for number in range(4):
        left = 150 * number
        smear.crop((left, 60, left + 150, 220)).save(folder / f"field {number}.png")
    (folder / "none.png").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def config() -> AnalyzeConfig:
    """A given scale: small fields hold too few red cells for the ruler."""
    return make_config(pixel_size_um=0.16, device="cpu")


@pytest.fixture(scope="module")
def reference(fields: Path, config: AnalyzeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    out = tmp_path_factory.mktemp("reference")
    outcomes = run_batch(expand_inputs([fields]), out, config)
    assert [outcome.status for outcome in outcomes] == ["done"] * 4 + ["failed"]
    return out


def tables(out: Path) -> dict[str, bytes]:
    """The bytes of all cells and counts, and of the summary less its times."""
    found = {
        f"{name}/{table}": (out / name / table).read_bytes()
        for name in sorted(entry.name for entry in out.iterdir() if entry.is_dir())
        for table in TABLES
    }
    with open(out / "summary.csv", encoding="utf-8", newline="") as file:
        rows = [
            {key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)
        ]
    return {**found, "summary": json.dumps(rows).encode()}


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Which file each slide's receipt is: a slide that is done again has another."""
    return {
        file.parent.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in out.glob("[!.]*/run.json")
    }


def test_a_finished_run_is_not_done_again(
    fields: Path, config: AnalyzeConfig, reference: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(reference, tmp_path / "out"))
    before = stamps(out)
    outcomes = run_batch(expand_inputs([fields]), out, config, resume=True)
    assert [outcome.resumed for outcome in outcomes] == [True] * 4 + [False]
    assert stamps(out) == before
    assert tables(out) == tables(reference)


def test_paths_are_slides_as_on_the_command_line(
    fields: Path, reference: Path, config: AnalyzeConfig, tmp_path: Path
) -> None:
    outcomes = run_batch([fields], tmp_path / "out", config)
    assert [one.slide_id for one in outcomes] == [one.slide_id for one in expand_inputs([str(fields)])]
    assert len(outcomes) > 1
    with pytest.raises(ArgumentError, match="give a list of slides or paths"):
        run_batch(str(fields), tmp_path / "none", config)
    assert not (tmp_path / "none").exists()


def test_what_is_missing_or_changed_is_done_and_no_more(
    fields: Path, config: AnalyzeConfig, reference: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(reference, tmp_path / "out"))
    mine = Path(shutil.copytree(fields, tmp_path / "fields"))
    pixels = np.array(Image.open(mine / "field 1.png"))
    Image.fromarray(pixels[::-1]).save(mine / "field 1.png")
    shutil.rmtree(out / "field 2")
    (out / "field 3" / "cells.csv").unlink()
    before = stamps(out)
    outcomes = run_batch(expand_inputs([mine]), out, config, resume=True)
    assert [outcome.resumed for outcome in outcomes] == [True, False, False, False, False]
    assert stamps(out)["field 0"] == before["field 0"]
    assert (out / "field 2" / "cells.csv").read_bytes() == (reference / "field 2" / "cells.csv").read_bytes()
    assert (out / "field 1" / "cells.csv").read_bytes() != (reference / "field 1" / "cells.csv").read_bytes()


def test_other_settings_are_another_run(
    fields: Path, config: AnalyzeConfig, reference: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(reference, tmp_path / "out"))
    (slide,) = expand_inputs([fields / "field 0.png"])
    (outcome,) = run_batch([slide], out, make_config(pixel_size_um=0.17, device="cpu"), resume=True)
    assert not outcome.resumed


def test_fields_of_one_slide_are_resumed_as_one(fields: Path, config: AnalyzeConfig, tmp_path: Path) -> None:
    slide = SlideInput((fields / "field 0.png", fields / "field 3.png"), "S1")
    first = run_batch([slide], tmp_path / "out", config)
    again = run_batch([slide], tmp_path / "out", config, resume=True)
    assert (first[0].resumed, again[0].resumed) == (False, True)
    assert again[0].n_cells == first[0].n_cells
    folder = tmp_path / "out" / "S1"
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in ("field%200", "field%203"):
        assert f'href="fields/{name}/report.html"' in page
    assert (folder / "fields" / "field 0" / "report.html").is_file()
    assert "2 fields, counted together" in page
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert set(run["scale"]) == {"field 0", "field 3"}
    slide_result = read_slide(folder)
    assert (slide_result.slide_id, slide_result.um_per_px) == ("S1", 0.16)
    assert len(slide_result.cells) == first[0].n_cells and set(slide_result.cells["field"]) == set(
        run["scale"]
    )
    # That there is no leukocyte is said once, of the slide.
    assert [one for one in first[0].warnings if "percentages are empty" in one] == [
        "no settled leukocyte was found: percentages are empty."
    ]
    swapped = SlideInput(slide.fields[::-1], "S1")
    assert not run_batch([swapped], tmp_path / "out", config, resume=True)[0].resumed


def test_the_manifest_names_settings_models_and_slides(reference: Path) -> None:
    manifest = json.loads((reference / "manifest.json").read_text())
    assert [slide["slide_id"] for slide in manifest["slides"]][:2] == ["field 0", "field 1"]
    assert manifest["settings"]["pixel_size_um"] == 0.16
    assert len(manifest["models"]["classifier"]) == 64


def test_several_processes_write_the_same_tables(
    fields: Path, config: AnalyzeConfig, reference: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    outcomes = run_batch(expand_inputs([fields]), tmp_path / "out", config, workers=2, progress=seen.append)
    assert [outcome.slide_id for outcome in outcomes] == [f"field {n}" for n in range(4)] + ["none"]
    assert outcomes[-1].status == "failed" and "text, not an image" in str(outcomes[-1].error)
    assert tables(tmp_path / "out") == tables(reference)
    assert seen[-1].done == 5


def test_the_number_of_threads_does_not_change_the_tables(
    fields: Path, config: AnalyzeConfig, reference: Path, tmp_path: Path
) -> None:
    import torch

    from napari_leukocls.analysis.engine import _loaded

    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            _loaded.clear()
            run_batch(expand_inputs([fields]), tmp_path / str(threads), config)
            assert tables(tmp_path / str(threads)) == tables(reference)
    finally:
        torch.set_num_threads(before)


def test_a_model_that_is_damaged_stops_all_processes_with_its_own_error(fields: Path, tmp_path: Path) -> None:
    from napari_leukocls.errors import ModelError
    from napari_leukocls.models.registry import find_model

    broken = Path(shutil.copytree(find_model("default").path, tmp_path / "broken"))
    (broken / "weights.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="broken"):
        run_batch(expand_inputs([fields]), tmp_path / "out", make_config(classifier=str(broken)), workers=2)
    assert not list((tmp_path / "out").iterdir())


def test_a_stop_keeps_what_is_done(fields: Path, config: AnalyzeConfig, tmp_path: Path) -> None:
    token = CancelToken()

    def stop(step: Progress) -> None:
        if step.stage == "slides" and step.done == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        run_batch(expand_inputs([fields]), tmp_path, config, progress=stop, cancel=token)
    assert sorted(stamps(tmp_path)) == ["field 0", "field 1"]
    with open(tmp_path / "summary.csv", encoding="utf-8", newline="") as file:
        assert [row["slide_id"] for row in csv.DictReader(file)] == ["field 0", "field 1"]


def test_two_runs_into_one_folder_are_refused(fields: Path, config: AnalyzeConfig, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="needs file locks")
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(ArgumentError, match="another run"):
            run_batch(expand_inputs([fields]), tmp_path, config)
    finally:
        os.close(held)


def test_a_scheduler_that_is_not_there_is_said(fields: Path, config: AnalyzeConfig, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra `cluster`")
    with pytest.raises(ArgumentError, match="no Dask scheduler"):
        run_batch(expand_inputs([fields]), tmp_path, config, scheduler="nowhere")


def start(fields: Path, out: Path, *words: str) -> subprocess.Popen[bytes]:
    """A batch in a process group of its own."""
    command = [sys.executable, "-m", "napari_leukocls", "analyze", str(fields), "--out", str(out)]
    options = ("--pixel-size-um", "0.16", "--device", "cpu", *words)
    return subprocess.Popen(
        [*command, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def test_a_batch_that_is_killed_goes_on_where_it_was(fields: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    batch = start(fields, out)
    deadline = time.monotonic() + 120
    while not stamps(out) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(batch.pid, signal.SIGKILL)
    batch.wait()
    done = stamps(out)
    assert done, "no slide was done before the kill"
    for name in done:
        assert (out / name / "cells.csv").read_bytes() == (reference / name / "cells.csv").read_bytes()
    assert start(fields, out, "--resume").wait() == 1
    assert tables(out) == tables(reference)
    assert {name: stamp for name, stamp in stamps(out).items() if name in done} == done


@pytest.mark.slow
def test_processes_end_when_their_run_is_killed(fields: Path, reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    batch = start(fields, out, "--workers", "2")
    deadline = time.monotonic() + 120
    while not stamps(out) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(batch.pid, signal.SIGKILL)
    batch.wait()
    deadline = time.monotonic() + 20
    while _group_lives(batch.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _group_lives(batch.pid)
    assert start(fields, out, "--resume", "--workers", "2").wait() == 1
    assert tables(out) == tables(reference)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_folder_of_somebody_elses_costs_one_slide_only(
    fields: Path, config: AnalyzeConfig, tmp_path: Path
) -> None:
    inputs = expand_inputs([fields])
    taken = inputs[0].slide_id
    (tmp_path / "out" / taken).mkdir(parents=True)
    (tmp_path / "out" / taken / "mine.txt").write_text("not to be lost")
    outcomes = {one.slide_id: one for one in run_batch(inputs, tmp_path / "out", config)}
    failed = {name for name, one in outcomes.items() if one.status == "failed"}
    assert taken in failed and len(failed) < len(inputs) - 1
    assert "move it or choose another output folder" in str(outcomes[taken].error)
    assert (tmp_path / "out" / taken / "mine.txt").read_text() == "not to be lost"


def test_a_model_with_a_class_that_cannot_be_counted_is_refused_before_any_image(
    fields: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    shutil.copytree(bundled_dir("models") / "default", own)
    card = json.loads((own / "model.json").read_text(encoding="utf-8"))
    card["classes"][0] = "zebra_cell"
    (own / "model.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ArgumentError, match=r"scheme\.toml"):
        run_batch(expand_inputs([fields]), tmp_path / "out", make_config(classifier=str(own)))
    assert not [one for one in (tmp_path / "out").iterdir() if one.is_dir()]


def test_a_script_without_a_main_guard_is_told_what_it_lacks(fields: Path, tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "from napari_leukocls.batch import run_batch\n"
        "from napari_leukocls.config import make_config\n"
        "from napari_leukocls.io.inputs import expand_inputs\n"
        f"slides = expand_inputs([{str(fields)!r}])\n"
        f"run_batch(slides, {str(tmp_path / 'out')!r}, make_config(device='cpu'), workers=2)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "ArgumentError" in done.stderr and "if __name__ ==" in done.stderr.splitlines()[-1]
