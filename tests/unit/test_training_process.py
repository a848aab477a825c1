"""A training in a process of its own: its news, a soft stop, and a kill at any moment."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time

import pytest
from crops_for_training import make_crops, settings

from napari_leukocls.classification.loading import verify
from napari_leukocls.training.events import LAST
from napari_leukocls.training.process import TrainProcess

#: Seconds that a process on a busy machine may take.
PATIENCE = 240


def news(process, until):
    """Events until one fulfils `until` or the process has ended."""
    events, end = [], time.monotonic() + PATIENCE
    while time.monotonic() < end:
        running = process.running
        fresh = process.poll()
        events += fresh
        if any(until(event) for event in fresh) or not running:
            return events
        time.sleep(0.02)
    process.kill()
    raise AssertionError(f"nothing came: {events}")


def last(event):
    return event.kind in LAST


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    return make_crops(tmp_path_factory.mktemp("crops") / "crops")


def test_settings_that_cannot_be_read_are_an_event_and_a_status(tmp_path):
    for text, said in (("{", "cannot be read"), ('{"out": "o", "epoch": 1}', "did you mean 'epochs'")):
        (tmp_path / "c.json").write_text(text)
        command = [sys.executable, "-m", "napari_leukocls.training", str(tmp_path / "c.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        event = json.loads(done.stdout)
        assert done.returncode == 2 and event["kind"] == "failed" and said in event["data"]["message"]


def test_a_process_that_fails_says_why_once(tmp_path):
    process = TrainProcess(settings(tmp_path / "nowhere", tmp_path / "out"))
    assert process.poll() == [] and not process.running and process.returncode is None
    process.start()
    events = news(process, last)
    failed = [event for event in events if event.kind == "failed"]
    assert len(failed) == 1 and "does not exist" in failed[0].data["message"]
    process.kill()
    process.stop()
    assert process.poll() == [] and process.returncode == 1


@pytest.mark.parametrize(
    ("asked", "got"),
    [({}, "PASSIVE"), ({"GOMP_SPINCOUNT": "7"}, "None"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")],
    ids=str,
)
def test_threads_that_wait_leave_the_processor_to_others_unless_told_otherwise(asked, got):
    code = (
        "import os, sys; from napari_leukocls.training.__main__ import main; main([]); "
        "print(os.environ.get('OMP_WAIT_POLICY'), 'torch' in sys.modules)"
    )
    of_waiting = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    own = {name: value for name, value in os.environ.items() if name not in of_waiting} | asked
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own)
    # OpenMP reads it when torch is loaded.
    assert done.stderr.split()[-2:] == [got, "False"], done.stderr


@pytest.mark.slow
def test_a_process_trains_and_a_soft_stop_keeps_the_best(crops, tmp_path):
    process = TrainProcess(settings(crops, tmp_path, epochs=1000, patience=0))
    process.start()
    events = news(process, lambda event: event.kind == "epoch")
    process.stop()
    events += news(process, last)
    assert [event.kind for event in events if event.kind in LAST] == ["stopped"]
    while process.running:
        time.sleep(0.05)
    assert process.poll() == [] and process.returncode == 0 and verify(tmp_path / "made")
    assert {"started", "split", "epoch"} <= {event.kind for event in events}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_random_points_and_resumed_gives_the_same_figures(crops, tmp_path, seed):
    varied = {
        "epochs": 12,
        "ema": 0.9,
        "mixup": 0.2,
        "dropout": 0.2,
        "checkpoint_minutes": 0.0,
        "patience": 0,
    }
    cards = {}
    for name, kills in (("whole", 0), ("killed", 2)):
        out, moment = tmp_path / name, random.Random(seed)
        for kill in range(kills + 1):
            process = TrainProcess(settings(crops, out, **varied))
            process.start()
            if kill < kills:
                news(process, lambda event: event.kind in ("epoch", "finished"))
                time.sleep(moment.uniform(0, 0.7))
                process.kill()
                killed = process.poll()
                assert all(event.kind != "failed" or "signal 9" in event.data["message"] for event in killed)
            else:
                assert news(process, last)[-1].kind == "finished"
        cards[name] = json.loads((out / "made" / "model.json").read_text())
    for name in ("weights_sha256", "temperature", "review_threshold", "ood", "validation"):
        assert cards["killed"][name] == cards["whole"][name]
    figures = [{k: v for k, v in cards[name]["test"].items() if k != "touched"} for name in cards]
    assert figures[0] == figures[1]


@pytest.mark.slow
def test_two_processes_share_one_training(crops, tmp_path):
    pytest.importorskip("accelerate")
    # What `accelerate launch` runs beneath; on a CPU it would itself ask for MPI.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launcher += ["--master_addr", "127.0.0.1", "--master_port", str(port)]
    process = TrainProcess(settings(crops, tmp_path, epochs=2), launcher)
    process.start()
    events = news(process, last)
    started = next(event for event in events if event.kind == "started")
    assert started.data["processes"] == 2
    assert events[-1].kind == "finished" and len([e for e in events if e.kind == "epoch"]) == 2
    assert verify(tmp_path / "made")
