"""A real Dask cluster on this machine: the same tables, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from napari_leukocls.batch import run_batch
from napari_leukocls.cli import main
from napari_leukocls.config import make_config
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import Progress

pytest.importorskip("distributed", reason="needs the extra `cluster`")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SLIDES = 6


def dask(*words: str) -> subprocess.Popen[bytes]:
    """A scheduler or a worker, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_DISTRIBUTED__DASHBOARD__LINK": ""},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    """Address of a scheduler without workers."""
    file = tmp_path / "scheduler.json"
    process = dask(
        "dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--no-dashboard",
        "--scheduler-file",
        str(file),
    )
    deadline = time.monotonic() + 120
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    import json

    try:
        yield json.loads(file.read_text())["address"]
    finally:
        process.terminate()
        process.wait(timeout=30)


def worker(scheduler: str) -> subprocess.Popen[bytes]:
    """A worker with one process and no nanny that would start it again."""
    return dask(
        "dask_worker", scheduler, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_cluster_whose_worker_is_killed_writes_the_same_tables(
    scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = tmp_path / "fields"
    fields.mkdir()
    smear = Image.open(sample_smear())
    for number in range(SLIDES):
        smear.crop((100 * number, 0, 100 * number + 240, 240)).save(fields / f"{number}.png")
    config = make_config(pixel_size_um=0.16, device="cpu")
    slides = expand_inputs([fields])
    run_batch(slides, tmp_path / "one", config)
    workers = [worker(scheduler), worker(scheduler)]
    killed: list[int] = []

    def kill_one(step: Progress) -> None:
        if step.done == 2 and not killed:
            killed.append(workers[0].pid)
            os.kill(workers[0].pid, signal.SIGKILL)

    try:
        outcomes = run_batch(slides, tmp_path / "cluster", config, scheduler=scheduler, progress=kill_one)
        smear.crop((0, 100, 240, 340)).save(fields / "later.png")
        words = [
            "analyze",
            str(fields),
            "--out",
            str(tmp_path / "cluster"),
            "--scheduler",
            scheduler,
            "--resume",
        ]
        assert main([*words, "--pixel-size-um", "0.16", "--device", "cpu"]) == 0
        done = capsys.readouterr()
        assert "later" in done.out + done.err and (tmp_path / "cluster" / "later" / "cells.csv").is_file()
    finally:
        for process in workers:
            process.kill()
            process.wait(timeout=30)
    assert killed and [outcome.status for outcome in outcomes] == ["done"] * SLIDES
    for slide in slides:
        for table in ("cells.csv", "counts.csv"):
            place = Path(slide.slide_id) / table
            assert (tmp_path / "cluster" / place).read_bytes() == (tmp_path / "one" / place).read_bytes()
    assert run_batch(slides, tmp_path / "cluster", config, resume=True)[0].resumed
