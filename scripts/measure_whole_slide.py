"""Draw large tiled slides and measure time and memory of their analysis against a 12-megapixel field's.

Run from the root of the project: ``python scripts/measure_whole_slide.py --side 4096 --side 8192``. A set of
squares is drawn once and laid in varied copies (turned and mirrored), as drawing 400 megapixels afresh would
take longer than the analysis; a share of them is empty glass. Each analysis is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import tifffile

from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear

SQUARE, UM_PER_PX, TILE = 1024, 0.16, 512
FIELD = (3072, 4096)


def squares(count: int) -> list[np.ndarray]:
    """Draw squares of a normal smear."""
    recipe = SmearRecipe(
        height=SQUARE,
        width=SQUARE,
        um_per_px=UM_PER_PX,
        red_cells=RedCellRecipe(count=200, overlap=0.15, clustering=0.2),
        leukocytes={"segmented_neutrophil": 8, "lymphocyte": 5, "monocyte": 1, "eosinophil": 1},
        platelets=15,
    )
    return [render_smear(recipe, seed).pixels for seed in range(count)]


def mosaic_tile(drawn: list[np.ndarray], row: int, column: int, glass_share: float) -> np.ndarray:
    """One tile of the slide: a quarter of some square, turned and mirrored by its place."""
    y, x = row * TILE // SQUARE, column * TILE // SQUARE
    rng = np.random.default_rng((y, x))
    square = drawn[rng.integers(len(drawn))]
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    if rng.random() < glass_share:
        square = np.full_like(square, np.percentile(square, 97, axis=(0, 1)).astype(np.uint8))
    square = np.rot90(square[:, ::-1] if mirror else square, turns)
    top, left = row * TILE - y * SQUARE, column * TILE - x * SQUARE
    return np.ascontiguousarray(square[top : top + TILE, left : left + TILE])


def write_slide(path: Path, shape: tuple[int, int], drawn: list[np.ndarray], glass_share: float) -> None:
    """Write a tiled TIFF without ever holding it whole; what its last tiles have too much is cut by the reader."""

    def tiles() -> Iterator[np.ndarray]:
        for row in range(-(-shape[0] // TILE)):
            for column in range(-(-shape[1] // TILE)):
                yield mosaic_tile(drawn, row, column, glass_share)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        compression="zlib",
        photometric="rgb",
        bigtiff=True,
        resolution=(1e4 / UM_PER_PX, 1e4 / UM_PER_PX),
        resolutionunit="CENTIMETER",
    )


#: Run in a process of its own: the models are loaded before the clock starts.
PROGRAM = """
import json, resource, sys, time
from napari_leukocls.batch import run_batch
from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.config import make_config
from napari_leukocls.io.inputs import expand_inputs
config = make_config(device="cpu")
load_engine(config)
wall, used = time.perf_counter(), time.process_time()
(outcome,) = run_batch(expand_inputs([sys.argv[1]]), sys.argv[2], config)
figures = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - used}
figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({**figures, "cells": outcome.n_cells}))
"""


def measure(image: Path, out: Path) -> dict[str, float]:
    """Analyse an image: seconds of the clock and of the processor, peak of the process's memory, cells."""
    command = [sys.executable, "-c", PROGRAM, str(image), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ, check=True)
    return json.loads(done.stdout)


@click.command()
@click.option("--side", "sides", type=int, multiple=True, default=(4096, 8192), help="Pixels; repeatable.")
@click.option("--glass", default=0.0, help="Share of the slide that is empty glass.")
@click.option("--squares", "count", default=4, help="Squares that are drawn.")
@click.option("--field/--no-field", default=True, help="Whether the 12-megapixel field is measured too.")
def main(sides: tuple[int, ...], glass: float, count: int, field: bool) -> None:
    """Print one JSON line a slide."""
    drawn = squares(count)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_slide(place / "field.tif", FIELD, drawn, 0.0)
        todo = [("field", FIELD)] if field else []
        todo += [(f"slide{side}", (side, side)) for side in sides]
        for name, shape in todo:
            image = place / f"{name}.tif"
            write_slide(image, shape, drawn, glass if name != "field" else 0.0)
            figures = measure(image, place / "out")
            megapixels = shape[0] * shape[1] / 1e6
            each = {f"{name}_per_mp": figures[name] / megapixels for name in ("seconds", "processor_seconds")}
            figures |= {"megapixels": megapixels, **each, "load": os.getloadavg()[0]}
            click.echo(json.dumps({"image": image.stem, **figures}))
            image.unlink()


if __name__ == "__main__":
    main()
