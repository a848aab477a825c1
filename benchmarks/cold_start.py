"""Time starts from nothing, each a process of its own, in turns within one run.

    python -m benchmarks.cold_start [--image FIELD] [--classifier default] [--turns 9] [--only NAME ...]
                                    [--other NAME=COMMAND ...] [--json]

``analyze``: the command on one field, from the start of its process to its end. ``dock``: a napari window with the
Analyse dock, until the dock is shown. Beside them: ``import_torch``, ``cellpose`` (`from cellpose import models`, what
every command of cellpose does first), and ``napari`` (the same window without the dock). Other programs can be named,
for example ``--other "qupath=QuPath --version"``. Everything is started once before anything is timed, so that the disk
is not measured. A ratio belongs to one turn: the time over that of the process it is compared with in the same turn.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from napari_leukocls.paths import sample_smear

#: What is compared with what: the name of the ratio, and the two processes.
RATIOS = {
    "ratio": ("analyze", "import_torch"),
    "analyze_to_cellpose": ("analyze", "cellpose"),
    "dock_to_napari": ("dock", "napari"),
    "dock_to_cellpose": ("dock", "cellpose"),
}
#: They open a window.
WINDOWS = ("napari", "dock")
_WINDOW = """
import os, sys, tempfile
with tempfile.TemporaryDirectory() as folder:
    os.environ["LEUKOCLS_DATA"] = folder
    import napari
    from qtpy.QtWidgets import QApplication
    viewer = napari.Viewer()
    if sys.argv[1:]:
        viewer.window.add_plugin_dock_widget("napari-leukocls", sys.argv[1])[1].repaint()
    QApplication.processEvents()
    # What the dock imports ahead in another thread is not waited for.
    sys.stdout.flush()
    os._exit(0)
"""


def commands(field: Path, classifier: str, out: Path) -> dict[str, tuple[str, ...]]:
    """The processes that are timed, by name."""
    analyze = ("analyze", str(field), "--out", str(out), "--classifier", classifier)
    return {
        "import_torch": (sys.executable, "-c", "import torch"),
        "cellpose": (sys.executable, "-c", "from cellpose import models"),
        "analyze": (sys.executable, "-m", "napari_leukocls", *analyze),
        "napari": (sys.executable, "-c", _WINDOW),
        "dock": (sys.executable, "-c", _WINDOW, "Analyse"),
    }


def run(words: Sequence[str]) -> tuple[float, float]:
    """Seconds on the clock, and seconds of the processor, of one process."""
    before, start = os.times(), time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return wall, used


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(
        values if len(values) > 1 else [*values] * 2, n=4, method="inclusive"
    )
    return {"median": round(middle, 3), "quartile_low": round(low, 3), "quartile_high": round(high, 3)}


def measure(processes: Mapping[str, Sequence[str]], turns: int, scratch: Path) -> dict[str, Any]:
    """Start each once to warm the disk's cache, then `turns` times in turn.

    Parameters
    ----------
    processes : mapping
        The words of each process. Its outputs go into `scratch`, which is emptied before each turn.
    turns : int
    scratch : Path

    Returns
    -------
    dict
        ``NAME_s`` and ``NAME_cpu_s`` of each process, and the ratios of `RATIOS` (``cpu_`` before the name for those of
        the processor's seconds), each with median and quartiles.
    """
    columns: dict[str, list[float]] = {}
    for turn in range(turns + 1):
        taken: dict[str, tuple[float, float]] = {}
        for name, words in processes.items():
            shutil.rmtree(scratch, ignore_errors=True)
            taken[name] = run(words)
        row: dict[str, float] = {}
        for name, (wall, used) in taken.items():
            row |= {f"{name}_s": wall, f"{name}_cpu_s": used}
        for name, (slow, base) in RATIOS.items():
            if slow in taken and base in taken:
                row[name] = taken[slow][0] / taken[base][0]
                row[f"cpu_{name}"] = taken[slow][1] / taken[base][1]
        for name, value in row.items() if turn else ():
            columns.setdefault(name, []).append(value)
    return {name: spread(values) for name, values in columns.items()}


def has_display() -> bool:
    """Whether a window can be opened."""
    return bool(os.environ.get("DISPLAY")) or sys.platform in ("win32", "darwin")


def tables(found: Mapping[str, Any], processes: Sequence[str]) -> list[dict[str, Any]]:
    """The figures as a table of the page of measured figures."""
    rows = []
    for name in processes:
        used = found[f"{name}_cpu_s"]["median"]
        over = {
            key: found.get(f"cpu_{key}", {}).get("median")
            for key, (slow, _) in RATIOS.items()
            if slow == name
        }
        text = "; ".join(
            f"{value:.2f} times {RATIOS[key][1]}" for key, value in over.items() if value is not None
        )
        rows.append([name, f"{used:.2f}", text])
    return [
        {
            "name": "cold_start",
            "title": "From nothing to the first result",
            "question": "How long does it take until `leukocls analyze` has analysed one field of 640 x 480, and until "
            "the Analyse dock is shown, beside what other programs need to start?",
            "set": "a bundled smear; each process is started in turn",
            "command": "python -m benchmarks run cold_start --keep",
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "columns": ["process", "seconds of the processor", "compared in the same turn"],
            "rows": rows,
            "note": f"Medians of {found['turns']} turns on {found['cores']} cores. "
            + found.get("left_out", ""),
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--image", type=Path, help="a field; by default 640 x 480 pixels of a bundled smear")
    parser.add_argument("--classifier", default="default")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the processes")
    parser.add_argument("--other", action="append", default=[], metavar="NAME=COMMAND")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        field, out = args.image, Path(folder) / "out"
        if field is None:
            field = Path(folder) / "field.png"
            Image.open(sample_smear()).crop((0, 0, 640, 480)).save(field)
        processes = commands(field, args.classifier, out)
        if args.only:
            processes = {name: processes[name] for name in args.only}
        load = os.getloadavg() if hasattr(os, "getloadavg") else None
        found: dict[str, Any] = {"turns": args.turns, "cores": os.cpu_count(), "load": load}
        if not has_display():
            processes = {name: words for name, words in processes.items() if name not in WINDOWS}
            found["left_out"] = "No display: no window was opened. "
        if not args.other:
            found["left_out"] = found.get("left_out", "") + "QuPath was not on this machine."
        for one in args.other:
            name, _, command = one.partition("=")
            processes[name] = tuple(shlex.split(command))
        found |= measure(processes, args.turns, out)
    if args.json:
        print(json.dumps(found | {"tables": tables(found, list(processes))}, indent=1))
        return
    print(f"{found['turns']} turns on {found['cores']} cores, load before {load[0]:.1f}" if load else "")
    for name, value in found.items():
        if isinstance(value, dict):
            middle, low, high = value["median"], value["quartile_low"], value["quartile_high"]
            print(f"{name:24} {middle:8.2f}  ({low:.2f} to {high:.2f})")
    print(found.get("left_out", ""))


if __name__ == "__main__":
    main()
