"""Kill a batch at random moments, resume it, and compare with a run that nothing happened to.

Run from the root of the project: ``python scripts/kill_batches.py --slides 40 --kills 30``. Each kill is a
SIGKILL to a process of its own, at a time drawn over a whole run from before; after it, whatever was done must
be whole, and the resumed run must not touch it.
"""

from __future__ import annotations

import json
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
from PIL import Image

from napari_leukocls.resources import sample_smear

TABLES = ("cells.csv", "counts.csv")


def make_fields(folder: Path, slides: int, side: int) -> None:
    """Cut small fields out of the bundled smear."""
    folder.mkdir()
    smear = Image.open(sample_smear())
    rng = random.Random(7)
    for number in range(slides):
        left, top = rng.randrange(smear.width - side), rng.randrange(smear.height - side)
        smear.crop((left, top, left + side, top + side)).save(folder / f"field{number:03d}.png")


def start(fields: Path, out: Path, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
    """Start a batch in a process group of its own."""
    command = [sys.executable, "-m", "napari_leukocls", "analyze", str(fields), "--out", str(out)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(
        [*command, "--pixel-size-um", "0.16", "--device", "cpu", *words], start_new_session=True, **quiet
    )


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
        folder = Path(place)
        make_fields(folder / "fields", slides, side)
        began = time.monotonic()
        if start(folder / "fields", folder / "reference", words).wait() != 0:
            raise click.ClickException("the run that nothing happened to failed")
        length = time.monotonic() - began
        expected = tables(folder / "reference")
        wrong: list[str] = []
        done_at_kill: list[int] = []
        out = folder / "out"
        for kill in range(kills):
            # A batch is killed and resumed again and again until all is done, then a new one begins.
            if len(stamps(out)) == slides:
                shutil.rmtree(out)
            before = stamps(out)
            batch = start(folder / "fields", out, (*words, "--resume"))
            time.sleep(rng.uniform(0, length))
            if batch.poll() is None:
                os.killpg(batch.pid, signal.SIGKILL) if workers == 1 else os.kill(batch.pid, signal.SIGKILL)
            batch.wait()
            after = stamps(out)
            done_at_kill.append(len(after))
            if any(after.get(name) != stamp for name, stamp in before.items()):
                wrong.append(f"kill {kill}: what was done was done again")
            if any(expected[name] != data for name, data in tables(out).items()):
                wrong.append(f"kill {kill}: tables differ")
        before = stamps(out)
        status = start(folder / "fields", out, (*words, "--resume")).wait()
        if status != 0 or tables(out) != expected:
            wrong.append("the last resumed run differs")
        if any(stamps(out).get(name) != stamp for name, stamp in before.items()):
            wrong.append("the last resumed run did again what was done")
        figures = {"slides": slides, "kills": kills, "seconds_of_a_run": round(length, 1)}
        click.echo(json.dumps({**figures, "slides_done_at_kills": done_at_kill, "wrong": wrong}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
