"""Whole analyses: a field, a large smear, images of increasing size, and the start of the command."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.benchmark._timing import seconds_of, take_turns
from napari_leukocls.errors import DeviceError
from napari_leukocls.explanation.cells import crops_of, surest_cells
from napari_leukocls.io.images import read_image
from napari_leukocls.paths import sample_smears
from napari_leukocls.progress import drain
from napari_leukocls.results.writer import write_result
from napari_leukocls.synthetic import RedCellRecipe, SmearRecipe, render_smear
from napari_leukocls.types import SmearImage

if TYPE_CHECKING:
    from napari_leukocls.analysis.engine import Engine

#: Pixel size of the rendered fields: red cells have a diameter of 47 px.
UM_PER_PX = 0.16
#: Rows and columns of copies of a 1024 x 1024 field: 4, 12 and 48 megapixels, which are compared with one field.
LAYOUTS = ((2, 2), (3, 4), (6, 8))
#: The command, run by this Python.
COMMAND = (sys.executable, "-m", "napari_leukocls")

#: Runs a command and prints its time and its peak memory. It runs in a separate process, because Linux counts the
#: memory of the parent at the fork as the child's.
_WATCH = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps([time.perf_counter() - start, usage.ru_maxrss * unit, os.waitstatus_to_exitcode(status)]))
"""


def _render(height: int, width: int) -> np.ndarray:
    """A field with the same number of cells per area for any size."""
    area = height * width * UM_PER_PX**2
    recipe = SmearRecipe(
        height=height,
        width=width,
        um_per_px=UM_PER_PX,
        red_cells=RedCellRecipe(count=round(area / 110)),
        leukocytes={
            "segmented_neutrophil": max(1, round(area / 1e4)),
            "lymphocyte": max(1, round(area / 2e4)),
        },
        platelets=round(area / 1000),
    )
    return render_smear(recipe, seed=1).pixels


def _save(pixels: np.ndarray, file: Path) -> Path:
    Image.fromarray(pixels).save(file, compress_level=1)
    return file


def small_field(engine: Engine, repeats: int) -> dict[str, Any]:
    """Time the analysis of a 640 x 480 file, with its scale estimated, and the writing of all outputs.

    Parameters
    ----------
    engine : Engine
        Its models are loaded.
    repeats : int

    Returns
    -------
    dict
        Number of cells, and median seconds of the parts and of the whole.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = _save(_render(480, 640), Path(folder) / "field.png")
        times: dict[str, list[float]] = {"read_and_analyse_s": [], "write_s": []}
        for turn in range(repeats + 1):
            start = time.perf_counter()
            result = drain(iter_analyze(read_image(file), engine))
            middle = time.perf_counter()
            write_result(result, Path(folder) / "out")
            if turn:
                times["read_and_analyse_s"].append(middle - start)
                times["write_s"].append(time.perf_counter() - middle)
    whole = [sum(pair) for pair in zip(*times.values(), strict=True)]
    parts = {name: statistics.median(values) for name, values in times.items()}
    return {"cells": len(result.cells), **parts, "whole_s": statistics.median(whole)}


def leukocyte_crops(engine: Engine, count: int) -> np.ndarray:
    """Cut crops of the leukocytes of a sample smear; they are repeated if there are fewer than asked for.

    Parameters
    ----------
    engine : Engine
    count : int

    Returns
    -------
    numpy.ndarray, (count, side_px, side_px, 3), uint8
    """
    result = drain(iter_analyze(read_image(next(iter(sample_smears().values()))), engine))
    rows = surest_cells(result.cells, count, engine.classifier.classes)
    return crops_of(result, engine.classifier, rows)[np.arange(count) % len(rows)]


def sizes(engine: Engine, quick: bool) -> dict[str, Any]:
    """Time images of increasing size with the same content, at a known scale, without writing outputs.

    Parameters
    ----------
    engine : Engine
    quick : bool
        Only the smallest size.

    Returns
    -------
    dict
        Seconds per megapixel of each size, and their ratios.
    """
    field = _render(1024, 1024)
    layouts = LAYOUTS[:1] if quick else LAYOUTS
    figures: dict[str, Any] = {}
    ratios = [1.0]
    one = _analysis(SmearImage(field, "field", "rendered", UM_PER_PX), engine)
    one()
    for rows, columns in layouts:
        tiled = np.tile(field, (rows, columns, 1))
        work = _analysis(SmearImage(tiled, "field", "rendered", UM_PER_PX), engine)
        count = rows * columns
        # The small image runs before and after the large one, so that other load does not appear as an effect of size.
        before = [seconds_of(one) for _ in range(3)]
        times = [seconds_of(work) for _ in range(max(1, (4 if quick else 12) // count))]
        reference = statistics.median(before + [seconds_of(one) for _ in range(3)])
        ratios.append(statistics.median(times) / reference / count)
        figures[f"{count}_megapixels_s_per_megapixel"] = statistics.median(times) / (tiled.size / 3e6)
        figures[f"{count}_megapixels_to_1_ratio"] = ratios[-1]
    figures["1_megapixel_s_per_megapixel"] = reference / (field.size / 3e6)
    figures["ratio_largest_to_smallest"] = max(ratios) / min(ratios)
    return figures


def _analysis(image: SmearImage, engine: Engine) -> Callable[[], object]:
    return lambda: drain(iter_analyze(image, engine))


def large_smear() -> dict[str, Any]:
    """Time the command on a 4096 x 3072 file, from its start to its end, and measure its peak memory.

    Returns
    -------
    dict

    Raises
    ------
    DeviceError
        If the analysis fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = _save(_render(3072, 4096), Path(folder) / "smear.png")
        options = ["--out", str(Path(folder) / "out"), "--device", "cpu"]
        command = [*COMMAND, "analyze", str(file), *options]
        if not hasattr(os, "wait4"):
            return {"command_s": seconds_of(lambda: subprocess.run(command, check=True, capture_output=True))}
        watched = subprocess.run([sys.executable, "-c", _WATCH, *command], check=True, capture_output=True)
        seconds, peak, status = json.loads(watched.stdout)
    if status:
        lines = watched.stderr.decode(errors="replace").strip().splitlines()
        raise DeviceError(f"the analysis of a 4096 x 3072 smear failed: {lines[-1] if lines else status}")
    return {"command_s": seconds, "peak_memory_gb": peak / 1e9}


def help_time(repeats: int) -> dict[str, Any]:
    """Time ``leukocls --help``.

    Parameters
    ----------
    repeats : int

    Returns
    -------
    dict
        Median seconds.
    """
    command = [*COMMAND, "--help"]
    times = take_turns({"help": lambda: subprocess.run(command, check=True, capture_output=True)}, repeats)
    return {"command_s": times["help"]}
