"""One field alone, and beside other busy processes: how many times as long it takes.

    python -m benchmarks.busy_machine [--turns 5] [--others 2] [--field FILE] [--spin]

The two are measured in turns, in processes of their own, so that other load of the machine slows both. The time is
that of the analysis, without the start of Python and the loading of models. `--spin` measures threads that wait in a
busy loop.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from napari_leukocls.paths import sample_smear
from napari_leukocls.threads import cores

_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS")
#: A busy process, which ends when its parent does.
_BUSY = "import os\np = os.getppid()\nwhile os.getppid() == p:\n    sum(range(100000))"
_ANALYSE = """
import json, sys, time
from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.config import make_config
from napari_leukocls.io.images import read_image
from napari_leukocls.progress import drain
engine, image, times = load_engine(make_config(device="cpu")), read_image(sys.argv[1]), []
for _ in range(3):
    start = time.perf_counter()
    drain(iter_analyze(image, engine))
    times.append(time.perf_counter() - start)
import torch
print(json.dumps({"seconds": min(times[1:]), "threads": torch.get_num_threads()}))
"""


def seconds(field: Path, others: int, spin: bool) -> tuple[float, int]:
    """Analyse a field beside some busy processes: the time of the second or third analysis, and torch's threads."""
    env = {name: value for name, value in os.environ.items() if name not in _WAITING}
    if spin:
        env["OMP_WAIT_POLICY"] = "ACTIVE"
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(others)]
    try:
        command = [sys.executable, "-c", _ANALYSE, str(field)]
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    found = json.loads(run.stdout.splitlines()[-1])
    return float(found["seconds"]), int(found["threads"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--others", type=int, default=2)
    parser.add_argument("--field", type=Path, default=sample_smear())
    parser.add_argument("--spin", action="store_true")
    args = parser.parse_args()
    os.chdir(tempfile.gettempdir())
    alone, beside, threads = [], [], 0
    for turn in range(args.turns):
        one, threads = seconds(args.field, 0, args.spin)
        other, _ = seconds(args.field, args.others, args.spin)
        alone.append(one)
        beside.append(other)
        load = os.getloadavg()[0]
        print(
            f"turn {turn + 1}: alone {one:.2f} s, beside {args.others} others {other:.2f} s, load {load:.1f}"
        )
    ratios = sorted(other / one for one, other in zip(alone, beside, strict=True))
    print(
        f"{cores()} cores, {threads} threads: alone {statistics.median(alone):.2f} s, beside {args.others} others "
        f"{statistics.median(beside):.2f} s, {statistics.median(ratios):.2f} times as long (from {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f})"
    )


if __name__ == "__main__":
    main()
