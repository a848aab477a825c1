"""Kill a batch at random moments, resume it, and compare with a run that nothing happened to.

Run from the root of the project: ``python scripts/kill_batches.py --slides 40 --kills 30``. Each kill is a
SIGKILL to a process of its own that began with nothing done, at a time drawn evenly over the length of the
undisturbed run, counted from its first slide; what is over by then does not count and is drawn again. Whatever
was done at a kill must be whole, and the resumed run must leave it alone and do the rest.
"""

from __future__ import annotations

import json
import os
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import click
from PIL import Image

from napari_leukocls.paths import sample_smear

TABLES = ("cells.csv", "counts.csv")


def make_fields(folder: Path, slides: int, side: int) -> None:
    """Cut small fields out of the bundled smear."""
    folder.mkdir()
    smear = Image.open(sample_smear())
    rng = random.Random(7)
    for number in range(slides):
        left, top = rng.randrange(smear.width - side), rng.randrange(smear.height - side)
        smear.crop((left, top, left + side, top + side)).save(folder / f"field{number:03d}.png")


class Batch:
    """A batch in a process group of its own, whose progress is watched as on a terminal."""

    def __init__(self, fields: Path, out: Path, *words: str) -> None:
        command = [sys.executable, "-m", "napari_leukocls", "analyze", str(fields), "--out", str(out)]
        self._terminal, its_end = pty.openpty()
        self.process = subprocess.Popen(
            [*command, "--pixel-size-um", "0.16", "--device", "cpu", *words],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=its_end,
        )
        os.close(its_end)
        self._begun = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        # A terminal whose other end is closed is an input error, and the end.
        with suppress(OSError):
            while said := os.read(self._terminal, 4096):
                if b"slides 0/" in said:
                    self._begun.set()
        self._begun.set()

    def wait_for_first_slide(self) -> float:
        """Time of the clock at which the first slide begins."""
        self._begun.wait()
        return time.monotonic()

    def kill(self, group: bool) -> bool:
        """SIGKILL; whether there was something to kill."""
        if self.process.poll() is not None:
            return False
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGKILL)
        return True

    def end(self) -> int:
        """Wait for the end; the exit status."""
        status = self.process.wait()
        self._reader.join(timeout=10)
        os.close(self._terminal)
        return status


def tables(out: Path) -> dict[str, bytes]:
    """The bytes of all tables of slides."""
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for name in TABLES
        for path in out.glob(f"[!.]*/{name}")
    }


def stamps(out: Path) -> dict[str, tuple[int, int]]:
    """Which file each slide's record is: a slide that is done again has another."""
    found = {}
    for path in out.glob("[!.]*/run.json"):
        state = path.stat()
        found[path.parent.name] = (state.st_ino, state.st_mtime_ns)
    return found


def faults_after_kill(
    fields: Path, out: Path, words: tuple[str, ...], expected: dict[str, bytes]
) -> list[str]:
    """Look at what a killed run has left, resume it, and look again."""
    wrong = []
    before = stamps(out)
    left = tables(out)
    if len(left) != len(before) * len(TABLES) or any(expected[name] != data for name, data in left.items()):
        wrong.append("a slide that counts as done is not whole")
    if Batch(fields, out, *words, "--resume").end() != 0:
        wrong.append("the resumed run failed")
    if tables(out) != expected:
        wrong.append("tables differ")
    after = stamps(out)
    if any(after.get(name) != stamp for name, stamp in before.items()):
        wrong.append("what was done was done again")
    if [path.name for path in out.glob(".leukocls-*")]:
        wrong.append("the dead run's half folders are still there")
    return wrong


@click.command()
@click.option("--slides", default=40)
@click.option("--kills", default=30)
@click.option("--side", default=160, help="Pixels of a field.")
@click.option("--workers", default=1)
@click.option("--seed", default=0)
def main(slides: int, kills: int, side: int, workers: int, seed: int) -> None:
    """Print one JSON object; status 1 where anything was lost, half done or done twice."""
    rng = random.Random(seed)
    words = ("--workers", str(workers)) if workers > 1 else ()
    with tempfile.TemporaryDirectory() as place:
        fields, reference, out = (Path(place) / name for name in ("fields", "reference", "out"))
        make_fields(fields, slides, side)
        undisturbed = Batch(fields, reference, *words)
        began = undisturbed.wait_for_first_slide()
        if undisturbed.end() != 0:
            raise click.ClickException("the run that nothing happened to failed")
        length = time.monotonic() - began
        expected = tables(reference)
        wrong: list[str] = []
        moments: list[dict[str, float]] = []
        over = 0
        while len(moments) < kills:
            shutil.rmtree(out, ignore_errors=True)
            batch = Batch(fields, out, *words)
            batch.wait_for_first_slide()
            moment = rng.uniform(0, length)
            time.sleep(moment)
            hit = batch.kill(group=workers == 1)
            batch.end()
            if not hit:
                over += 1
                continue
            moments.append({"seconds": round(moment, 2), "done": len(stamps(out))})
            click.echo(json.dumps(moments[-1]), err=True)
            faults = faults_after_kill(fields, out, words, expected)
            wrong += [f"kill {len(moments)}: {fault}" for fault in faults]
        figures = {"slides": slides, "kills": kills, "seconds_of_a_run": round(length, 1), "over": over}
        click.echo(json.dumps({**figures, "moments": moments, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
