"""Time heatmaps of a classifier against pytorch-grad-cam, one image at a time, in turns within one run.

    python benchmarks/heatmaps.py [--model default] [--cells 64] [--turns 5] [--method NAME] [--json]

The ratio counts only where both draw the same maps: they are compared in the same run.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from napari_leukocls.analysis.engine import load_engine
from napari_leukocls.benchmark._images import leukocyte_crops
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.config import make_config
from napari_leukocls.explanation import cam, network
from napari_leukocls.explanation.checks import check_model
from napari_leukocls.models.registry import find_model
from napari_leukocls.progress import drain

BATCHES = (4, 8, 16, 32, 64)


def one_by_one(classifier: Classifier, crops: np.ndarray, targets: np.ndarray, method: str) -> np.ndarray:
    """pytorch-grad-cam's maps, with the hooks set once."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net = copy.deepcopy(classifier.net)
    names, reshape = cam.target_layers(classifier.card, net)
    made = getattr(pytorch_grad_cam, network.CLASSES[method][0])
    with made(net, [net.get_submodule(name) for name in names], reshape_transform=reshape) as explainer:
        return np.stack(
            [
                explainer(classifier.tensor(crop[None]), [ClassifierOutputTarget(int(target))])[0]
                for crop, target in zip(crops, targets, strict=True)
            ]
        )


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one turn."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(model: str, count: int, turns: int, method: str | None) -> dict[str, Any]:
    """All figures; seconds are of this machine at this hour, ratios are what counts."""
    classifier = load_classifier(find_model(model).path, "cpu")
    named = method or cam.default_method(classifier.card)
    crops = leukocyte_crops(load_engine(make_config(classifier=model, device="cpu")), count)
    targets = classifier.predict(crops).probabilities.argmax(axis=1)
    theirs = one_by_one(classifier, crops, targets, named)
    mine = cam.heatmaps(classifier, crops, targets, named)
    few = max(8, count // 8)
    taken: dict[str, list[float]] = {f"batch_{size}": [] for size in BATCHES}
    taken |= {"pytorch_grad_cam": [], "single": []}
    for _ in range(turns):
        spent = seconds(lambda: one_by_one(classifier, crops[:few], targets[:few], named))
        taken["pytorch_grad_cam"].append(spent / few)
        taken["single"].append(seconds(lambda: cam.heatmaps(classifier, crops[:1], targets[:1], named)))
        for size in BATCHES:
            spent = seconds(lambda size=size: cam.heatmaps(classifier, crops, targets, named, size))
            taken[f"batch_{size}"].append(spent / count)
    middle = {name: 1000 * statistics.median(values) for name, values in taken.items()}
    best = min((f"batch_{size}" for size in BATCHES), key=middle.__getitem__)
    checked = seconds(lambda: drain(check_model(classifier, crops, targets, named)))
    apart = float(np.abs(mine - theirs).max())
    ratios = [slow / fast for slow, fast in zip(taken["pytorch_grad_cam"], taken[best], strict=True)]
    return {
        "model": model,
        "method": named,
        "threads": torch.get_num_threads(),
        "largest_difference_of_maps": apart,
        "maps_equal": apart < 1e-4,
        "ms_a_cell": {name: round(value, 2) for name, value in middle.items()},
        "best": best,
        "times_as_fast": round(statistics.median(ratios), 2),
        f"checks_of_{count}_cells_s": round(checked, 1),
    }


def main() -> None:
    """Parse the command line and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="default")
    parser.add_argument("--cells", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--method", help="by default the model's own")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    figures = measure(args.model, args.cells, args.turns, args.method)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:<32} {value}")


if __name__ == "__main__":
    main()
