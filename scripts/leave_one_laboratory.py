"""Compare routes of training on laboratories that they were not trained on.

    python -m scripts.leave_one_laboratory --pack PACK --data ../shared/data --start MODEL_FOLDER \
        --run RUN_A RUN_B ... --out docs/figures/laboratories.json

Each run of `scripts.train_laboratories` left some laboratories out. This script classifies the cells of these with
the run's weights, with the weights half-way between start and run (``halfway``), and with the start itself. A route
is judged by the mean over left-out laboratories of accuracy and balanced accuracy; ``tecom`` does not count.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.special import softmax
from statsmodels.stats.proportion import proportion_confint
from torch import nn

from napari_leukocls.evaluation.calibration import ece
from scripts.laboratories import CLASSES, PACKS, Cells, read_cells
from scripts.train_default import load_start
from scripts.train_laboratories import logits_of

log = logging.getLogger("leave_one_laboratory")
#: Fewest cells of a laboratory whose mean counts when a route is chosen.
FEWEST = 20


@dataclass(frozen=True)
class Figure:
    """Accuracy of one network on one laboratory that it was not trained on."""

    route: str
    weights: str
    laboratory: str
    n: int
    accuracy: float
    low: float
    high: float
    balanced_accuracy: float
    ece: float
    recall: dict[str, float]


def figure(route: str, weights: str, laboratory: str, logits: np.ndarray, target: np.ndarray) -> Figure:
    """Measure; the interval is Wilson's of 95 %, and counts cells as independent."""
    best = logits.argmax(1)
    right = best == target
    low, high = proportion_confint(int(right.sum()), len(right), method="wilson")
    recall = {CLASSES[k]: float(right[target == k].mean()) for k in np.unique(target)}
    balanced = float(np.mean(list(recall.values())))
    error = float(ece(softmax(logits, axis=1), target))
    return Figure(
        route,
        weights,
        laboratory,
        len(right),
        float(right.mean()),
        float(low),
        float(high),
        balanced,
        error,
        recall,
    )


def networks(start: nn.Module, run: Path) -> Iterator[tuple[str, nn.Module]]:
    """Yield the network of a run, and the one half-way to its start."""
    began = {name: value.float().clone() for name, value in start.state_dict().items()}
    ended = {name: value.float() for name, value in load_file(run / "weights.safetensors").items()}
    for name, share in (("run", 1.0), ("halfway", 0.5)):
        mixed = {key: began[key] + share * (value - began[key]) for key, value in ended.items()}
        start.load_state_dict(mixed)
        yield name, start
    start.load_state_dict(began)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pack", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    cells: dict[str, Cells] = {}
    figures: list[Figure] = []

    def measure(route: str, weights: str, net: nn.Module, names: list[str]) -> None:
        for name in names:
            one = cells.setdefault(name, read_cells(args.pack, args.data, name))
            rows = one.rows("all")
            figures.append(figure(route, weights, name, logits_of(net, one, rows), one.target[rows]))
            log.info("%s", {k: v for k, v in asdict(figures[-1]).items() if k != "recall"})

    start = load_start(args.start, len(CLASSES))
    measure("start", "start", start, [name for name in PACKS if name != "pbc"])
    for run in args.run:
        record = json.loads((run / "training.json").read_text())
        left_out = [*record["left_out"], "tecom"]
        for weights, net in networks(start, run):
            measure(record["route"], weights, net, left_out)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps([asdict(one) for one in figures], indent=1))


if __name__ == "__main__":
    main()
