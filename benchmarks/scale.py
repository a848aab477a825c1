"""Which share of a field's time finding its scale takes, in turns within one run.

    python benchmarks/scale.py FIELD [FIELD ...] [--turns 5] [--json]

Seconds of the processor of: the field with an unknown scale; with the scale of its folder known, as in a batch; and
with that scale given by the user. The last is the field without a ruler, whose share is what the others take more.
All outputs are written each time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.analysis.field import iter_analyze
from napari_leukocls.config import make_config
from napari_leukocls.io.images import read_image
from napari_leukocls.progress import drain
from napari_leukocls.results.writer import write_result
from napari_leukocls.segmentation.common_scale import CommonScale


def measure(files: list[Path], turns: int) -> dict[str, float]:
    """Medians over files and turns; ratios are what counts."""
    engine = load_engine(make_config(device="cpu"))
    seconds: dict[str, list[float]] = {"unknown": [], "folder": [], "given": []}
    shares: dict[str, list[float]] = {"unknown": [], "folder": []}
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            found = drain(iter_analyze(read_image(file), engine)).segmentation.scale
            common = CommonScale(found.red_cell_diameter_px, 0.04, 5, 100, 0.05)
            given = engine.config.model_copy(update={"diameter_px": found.red_cell_diameter_px})
            ways = {
                "unknown": (engine, None),
                "folder": (engine, common),
                "given": (replace(engine, config=given), None),
            }
            for turn in range(turns + 1):
                times = {}
                for name, (models, shared) in ways.items():
                    started = time.process_time()
                    result = drain(iter_analyze(read_image(file), models, common=shared))
                    write_result(result, Path(folder) / "out")
                    times[name] = time.process_time() - started
                if turn:
                    for name in seconds:
                        seconds[name].append(times[name])
                    for name in shares:
                        shares[name].append(1 - times["given"] / times[name])
    return {
        **{f"{name}_s": statistics.median(values) for name, values in seconds.items()},
        **{f"{name}_ruler_share": statistics.median(values) for name, values in shares.items()},
    }


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields", nargs="+", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = measure(args.fields, args.turns)
    print(
        json.dumps(found) if args.json else "\n".join(f"{name}: {value:.3f}" for name, value in found.items())
    )


if __name__ == "__main__":
    main()
