"""Time a batch on Dask clusters of different sizes on this machine.

Run from the root of the project: ``python scripts/measure_cluster.py --workers 1 --workers 4``. Workers are
processes with one thread; models are loaded before the clock starts, by a slide for each worker. A run that
finds all slides done tells what a slide costs beside its analysis: scheduling, and reading the input to hash it.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from PIL import Image

from napari_leukocls.batch import run_batch
from napari_leukocls.config import make_config
from napari_leukocls.io.inputs import expand_inputs
from napari_leukocls.paths import sample_smear

if TYPE_CHECKING:
    from distributed import LocalCluster


def make_fields(folder: Path, count: int, side: int) -> Path:
    """Cut fields out of the bundled smear."""
    folder.mkdir()
    smear = Image.open(sample_smear())
    rng = random.Random(5)
    for number in range(count):
        left, top = rng.randrange(smear.width - side), rng.randrange(smear.height - side)
        smear.crop((left, top, left + side, top + side)).save(folder / f"{number:04d}.png")
    return folder


def processor_seconds(cluster: LocalCluster) -> float:
    """What all workers have used of the processor."""
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        return sum(client.run(time.process_time).values())


@click.command()
@click.option("--workers", "sizes", type=int, multiple=True, default=(1, 4))
@click.option("--slides", default=16)
@click.option("--side", default=600, help="Pixels of a field.")
def main(sizes: tuple[int, ...], slides: int, side: int) -> None:
    """Print one JSON line a cluster."""
    from distributed import LocalCluster

    config = make_config(pixel_size_um=0.16, device="cpu")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fields = expand_inputs([make_fields(folder / "fields", slides, side)])
        for size in sizes:
            with LocalCluster(n_workers=size, threads_per_worker=1, dashboard_address=None) as cluster:
                warm = expand_inputs([make_fields(folder / f"warm{size}", 3 * size, 100)])
                run_batch(warm, folder / f"warm_out{size}", config, scheduler=cluster.scheduler_address)
                used = processor_seconds(cluster)
                began = time.perf_counter()
                out = folder / f"out{size}"
                outcomes = run_batch(fields, out, config, scheduler=cluster.scheduler_address)
                seconds = time.perf_counter() - began
                used = processor_seconds(cluster) - used
                began = time.perf_counter()
                run_batch(fields, out, config, scheduler=cluster.scheduler_address, resume=True)
                again = time.perf_counter() - began
            figures = {
                "workers": size,
                "slides": slides,
                "seconds": round(seconds, 2),
                "processor_seconds": round(used, 2),
                "seconds_within_slides": round(sum(outcome.seconds for outcome in outcomes), 2),
                "ms_a_slide_done_before": round(1000 * again / slides, 2),
                "load": round(os.getloadavg()[0], 1),
            }
            click.echo(json.dumps(figures))


if __name__ == "__main__":
    main()
