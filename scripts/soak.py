"""Analyse many small slides in one process and watch its memory.

Run from the root of the project: ``python scripts/soak.py --slides 300``.
"""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import click
import psutil
from PIL import Image

from napari_leukocls.batch import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.paths import sample_smear
from napari_leukocls.progress import Progress

#: Slides after which the program has settled.
SETTLED = 10


@click.command()
@click.option("--slides", default=300)
@click.option("--side", default=200, help="Pixels of a field.")
def main(slides: int, side: int) -> None:
    """Print memory (MB) along the run, and its growth after the tenth slide, percent."""
    process = psutil.Process()
    memory: list[float] = []

    def watch(step: Progress) -> None:
        if step.stage == "slides":
            memory.append(process.memory_info().rss / 1024**2)

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "fields"
        folder.mkdir()
        smear = Image.open(sample_smear())
        rng = random.Random(3)
        for number in range(slides):
            left, top = rng.randrange(smear.width - side), rng.randrange(smear.height - side)
            smear.crop((left, top, left + side, top + side)).save(folder / f"{number:04d}.png")
        config = make_config(pixel_size_um=0.16, device="cpu")
        outcomes = run_batch(expand_inputs([folder]), Path(place) / "out", config, progress=watch)
    growth = 100 * (memory[-1] / memory[SETTLED] - 1)
    shown = [round(value) for value in memory[:: max(1, slides // 15)]]
    done = sum(outcome.status == "done" for outcome in outcomes)
    click.echo(json.dumps({"done": done, "memory_mb": shown, "growth_percent": round(growth, 2)}))


if __name__ == "__main__":
    main()
