"""This program beside what a person would try first: speed, memory and accuracy, in turns within one run.

    python -m benchmarks.rivals [--data ../shared/data] [--turns 3] [--small] [--only TASK ...] [--json]

| task | here | beside it |
|---|---|---|
| outlines | `compact` | Otsu's threshold and a watershed of the distance map (scikit-image), which parts round cells as
StarDist does, without a network; cellpose-SAM, where its weights are on the computer |
| network | `compact` | the networks of cellpose 4 (cpsam) and of cellpose 1 to 3 (cyto), with random weights |
| classes | `default` | timm's MobileNetV2 image by image, with a linear layer that learnt from 40 crops of each class |
| heatmaps | batches | a loop over pytorch-grad-cam |

Each way runs in a process of its own (`benchmarks.rival_ways`); a ratio belongs to one turn.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
#: The ways of each task, this program's own first; what one unit is; what the accuracy is.
TASKS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "outlines": (("compact", "watershed", "cpsam"), "megapixel", "precision of masks at IoU 0.5"),
    "network": (("compact", "cyto", "cpsam"), "megapixel", ""),
    "classes": (("default", "timm"), "cell", "share of cells with the right class"),
    "heatmaps": (("here", "gradcam"), "cell", "largest difference between the maps"),
}
NAMES = {
    "outlines_compact": "outlines: `compact`",
    "outlines_watershed": "outlines: threshold and watershed (scikit-image)",
    "outlines_cpsam": "outlines: cellpose-SAM",
    "network_compact": "network alone: `compact`",
    "network_cyto": "network alone: cellpose 1 to 3 (cyto), random weights",
    "network_cpsam": "network alone: cellpose 4 (cpsam), random weights",
    "classes_default": "classes: `default`, with scale and outlines",
    "classes_timm": "classes: timm's MobileNetV2, image by image, and a linear layer",
    "heatmaps_here": "heatmaps: in batches",
    "heatmaps_gradcam": "heatmaps: a loop over pytorch-grad-cam",
}


def run_way(way: str, data: Path | None, small: bool, array: Path) -> dict[str, Any]:
    """Run one way in a process of its own.

    Parameters
    ----------
    way : str
    data : Path or None
        The public data sets.
    small : bool
    array : Path
        Where heatmaps are kept.

    Returns
    -------
    dict
        As `benchmarks.rival_ways` prints it.
    """
    words = [
        way,
        "--array",
        str(array),
        *(["--data", str(data)] if data else []),
        *(["--small"] if small else []),
    ]
    command = [sys.executable, "-m", "benchmarks.rival_ways", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {"left_out": f"it failed: {lines[-1] if lines else done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(tasks: Sequence[str], data: Path | None, turns: int, small: bool) -> dict[str, Any]:
    """Run all ways in turns.

    Parameters
    ----------
    tasks : sequence of str
        Of `TASKS`.
    data : Path or None
    turns : int
    small : bool

    Returns
    -------
    dict
        For each task its ways (median ``seconds`` and ``memory_mb``, ``accuracy``), and ``times_as_fast`` as each
        other way, the median of the turns' ratios.
    """
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            ways = TASKS[task][0]
            runs: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
            for turn in range(turns):
                for way in ways:
                    if turn and "left_out" in runs[way][0]:
                        continue
                    array = Path(folder) / f"{task}_{way}.npy"
                    runs[way].append(run_way(f"{task}_{way}", data, small, array))
            found[task] = summary(runs)
            maps = [Path(folder) / f"{task}_{way}.npy" for way in ways]
            if all(path.is_file() for path in maps):
                apart = np.abs(np.load(maps[0]) - np.load(maps[1])).max()
                found[task]["ways"][ways[1]]["accuracy"] = float(apart)
    return found


def summary(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Medians of the turns of each way, and the ratios to the first one."""
    ways: dict[str, dict[str, Any]] = {}
    for way, turns in runs.items():
        if "left_out" in turns[0]:
            ways[way] = {"left_out": turns[0]["left_out"]}
            continue
        measured = [one for one in turns if "left_out" not in one]
        ways[way] = dict(measured[0]) | {
            key: statistics.median(one[key] for one in measured) for key in ("seconds", "memory_mb")
        }
    own, *others = ways
    ratios = {}
    for other in others:
        pairs = zip(runs[own], runs[other], strict=False)
        each = [b["seconds"] / a["seconds"] for a, b in pairs if "seconds" in a and "seconds" in b]
        if each:
            ratios[other] = statistics.median(each)
    better = {
        other: ways[own]["accuracy"] / ways[other]["accuracy"]
        for other in others
        if ways[other].get("accuracy") and ways[own].get("accuracy")
    }
    return {"ways": ways, "times_as_fast": ratios, "times_as_accurate": better}


def tables(found: Mapping[str, Any], turns: int, load: float | None) -> list[dict[str, Any]]:
    """The figures as a table of the page of measured figures."""
    rows, absent = [], []
    for task, (ways, unit, accuracy) in TASKS.items():
        for way in ways if task in found else ():
            name, one = NAMES[f"{task}_{way}"], found[task]["ways"][way]
            if "left_out" in one:
                absent.append(f"{name}: {one['left_out']}.")
                continue
            faster = found[task]["times_as_fast"].get(way)
            rows.append(
                [
                    name,
                    f"{one['seconds']:.3g} s a {unit}",
                    "" if faster is None else f"{faster:.3g}",
                    f"{one['memory_mb']} MB",
                    f"{one['accuracy']:.3g} ({accuracy})" if "accuracy" in one else "",
                ]
            )
    busy = "" if load is None else f" Load of the machine before: {load:.1f} on {os.cpu_count()} cores."
    return [
        {
            "name": "rivals",
            "title": "Beside other programs, in one run",
            "question": "How fast, how large and how accurate is each step, beside what a person would try first?",
            "set": "outlines: a bundled smear, drawn by a program, at its known scale; classes: held-out crops of PBC, "
            "from which `default` learnt other images (the timm loop learnt from 40 crops of each class)",
            "command": "python -m benchmarks run rivals --keep",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "columns": ["way", "time", "times as slow as the first", "memory", "accuracy"],
            "rows": rows,
            "note": f"Medians of {turns} turns.{busy} Memory is what the process took beyond its libraries. "
            + " ".join(absent),
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    beside = ROOT.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=beside if beside.is_dir() else None)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a part of each, once")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    turns = 1 if args.small else args.turns
    found = measure(args.only, args.data.resolve() if args.data else None, turns, args.small)
    shown = tables(found, turns, load)
    if args.json:
        print(json.dumps({"turns": turns, "load": load, **found, "tables": shown}, indent=1))
        return
    for row in shown[0]["rows"]:
        print(f"{row[0]:<66} {row[1]:>22} {row[2]:>8} {row[3]:>9}  {row[4]}")
    print(shown[0]["note"])


if __name__ == "__main__":
    main()
