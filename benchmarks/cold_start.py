"""Time ``leukocls analyze`` on one field, with its start, against ``import torch`` alone, in turns within one run.

    python benchmarks/cold_start.py [--image FIELD] [--classifier default] [--turns 9] [--json]

Each is a process of its own. Both are read from the disk once before anything is timed. A ratio belongs to one turn:
the command's time over that of the ``import torch`` just before it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from napari_leukocls.paths import sample_smear

IMPORT_TORCH = (sys.executable, "-c", "import torch")


def run(words: tuple[str, ...]) -> tuple[float, float]:
    """Seconds on the clock, and seconds of the processor, of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, used


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": round(middle, 3), "quartile_low": round(low, 3), "quartile_high": round(high, 3)}


def measure(field: Path, classifier: str, turns: int) -> dict[str, Any]:
    """Run both once to warm the disk's cache, then `turns` times in turn."""
    columns: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(turns + 1):
            out = str(Path(folder) / str(turn))
            command = (
                "-m",
                "napari_leukocls",
                "analyze",
                str(field),
                "--out",
                out,
                "--classifier",
                classifier,
            )
            torch_wall, torch_used = run(IMPORT_TORCH)
            wall, used = run((sys.executable, *command))
            row = {
                "import_torch_s": torch_wall,
                "analyze_s": wall,
                "ratio": wall / torch_wall,
                "import_torch_cpu_s": torch_used,
                "analyze_cpu_s": used,
                "cpu_ratio": used / torch_used,
            }
            for name, value in row.items() if turn else ():
                columns.setdefault(name, []).append(value)
    return {name: spread(values) for name, values in columns.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path, help="a field; by default 640 x 480 pixels of a bundled smear")
    parser.add_argument("--classifier", default="default")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        field = args.image
        if field is None:
            field = Path(folder) / "field.png"
            Image.open(sample_smear()).crop((0, 0, 640, 480)).save(field)
        load = os.getloadavg() if hasattr(os, "getloadavg") else None
        found = {"turns": args.turns, "cores": os.cpu_count(), "load": load}
        found |= measure(field, args.classifier, args.turns)
    if args.json:
        print(json.dumps(found, indent=1))
        return
    print(f"{found['turns']} turns on {found['cores']} cores, load before {load[0]:.1f}" if load else "")
    for name, value in found.items():
        if isinstance(value, dict):
            print(
                f"{name:20} {value['median']:8.2f}  ({value['quartile_low']:.2f} to {value['quartile_high']:.2f})"
            )


if __name__ == "__main__":
    main()
