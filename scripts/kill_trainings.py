"""Kill trainings at random moments, resume them, and compare with one that nothing happened to.

    python -m scripts.kill_trainings --data LABELLED --kills 20 [-- --from default --preset quick --epochs 3]

Each kill is a SIGKILL to a process of its own, at a time drawn over a whole run from before. A training that
ends unharmed before its kill is compared, and begun anew until all kills are spent. What follows ``--`` goes to
``leukocls train``. The same number of threads on the same machine is a condition: sums depend on it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from napari_leukocls.models.card import read_card

#: What must come out the same.
SAME = ("weights_sha256", "temperature", "review_threshold", "ood", "validation")


def start(data: str, out: Path, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start a training in a process group of its own; it saves after every step."""
    command = [sys.executable, "-m", "napari_leukocls", "train", data, "--out", str(out), "--name", "made"]
    command += ["--device", "cpu", "--checkpoint-minutes", "0", *words]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, start_new_session=True, **quiet)


def figures(out: Path) -> dict[str, object]:
    """What the finished model's card says of it."""
    card = read_card(out / "made").model_dump(mode="json")
    test = {name: value for name, value in card["test"].items() if name != "touched"}
    return {name: card[name] for name in SAME} | {"test": test}


@click.command()
@click.option("--data", required=True, help="Labelled crops.")
@click.option("--kills", type=int, default=20, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def main(data: str, kills: int, seed: int, words: tuple[str, ...]) -> None:
    """Kill, resume, compare; the exit status is 1 where anything differs."""
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder) / "whole", Path(folder) / "killed"
        began = time.monotonic()
        if start(data, whole, words).wait() != 0:
            raise click.ClickException("the training fails unharmed: try it with leukocls train.")
        long, expected = time.monotonic() - began, figures(whole)
        print(f"unharmed: {long:.1f} s, weights {str(expected['weights_sha256'])[:12]}", flush=True)
        spent = finished = differ = 0
        while True:
            process = start(data, out, words)
            try:
                process.wait(draw.uniform(0, long) if spent < kills else None)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                spent += 1
                continue
            finished += 1
            if process.returncode != 0 or figures(out) != expected:
                differ += 1
            shutil.rmtree(out)
            if spent >= kills:
                break
    print(f"{spent} kills, {finished} trainings went on to their end, {differ} of them with other figures")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
