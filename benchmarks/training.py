"""Speed of training, as ratios within one run.

    python -m benchmarks.training throughput [--crops 512] [--turns 3]
    python -m benchmarks.training quick --data LABELLED [--crops 2000] [--epochs 5] [--ready]
    python -m benchmarks.training head --data LABELLED [--crops 2000] [--ready]

``throughput`` lets the product's epoch, a plain loop (torch's DataLoader and torchvision's transforms, crop by
crop), and a bare loop (ready tensors, no variation) take turns with the same network, batch and optimiser.
``quick`` and ``head`` fine-tune the default model on labelled crops (a folder or CSV as for ``leukocls train``)
and say what each stage took; ``--ready`` takes the images for crops at scale, which leaves cutting out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_leukocls.threads import share_processor

# As trainings do, and before torch is loaded: all loops that are compared have it.
share_processor()

import torch  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

SIDE, BATCH, CLASSES = 128, 32, 8


def random_crops(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops (N, S, S, 3) uint8 of coloured noise, and classes (N,)."""
    random = np.random.default_rng(0)
    small = random.integers(80, 255, (count, 16, 16, 3), dtype=np.uint8)
    return small.repeat(8, axis=1).repeat(8, axis=2), random.integers(0, CLASSES, count)


class PlainData(torch.utils.data.Dataset):
    """Crops varied one by one with torchvision, as most training scripts do it."""

    def __init__(self, crops: np.ndarray, classes: np.ndarray) -> None:
        from torchvision.transforms import v2

        self.crops, self.classes = crops, classes
        self.change = v2.Compose(
            [
                v2.ToImage(),
                v2.RandomHorizontalFlip(),
                v2.RandomVerticalFlip(),
                v2.RandomAffine(180, (0.05, 0.05), (0.9, 1.1), fill=235),
                v2.ColorJitter(0.2, 0.2, 0.2, 0.03),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self.change(self.crops[row]), int(self.classes[row])


def step(
    net: nn.Module, optimiser: torch.optim.Optimizer, images: torch.Tensor, classes: torch.Tensor
) -> None:
    """One plain step."""
    optimiser.zero_grad()
    functional.cross_entropy(net(images), classes).backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimiser.step()


def new_network() -> tuple[nn.Module, torch.optim.Optimizer]:
    """The network and optimiser of the plain loops."""
    import timm

    net = timm.create_model("mobilenetv2_100", num_classes=CLASSES).train()
    return net, torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-4)


def plain_epoch(crops: np.ndarray, classes: np.ndarray, workers: int) -> float:
    """Seconds of one epoch of the plain loop."""
    net, optimiser = new_network()
    loader = torch.utils.data.DataLoader(PlainData(crops, classes), BATCH, shuffle=True, num_workers=workers)
    began = time.perf_counter()
    for images, truth in loader:
        step(net, optimiser, images, truth)
    return time.perf_counter() - began


def bare_epoch(crops: np.ndarray, classes: np.ndarray) -> float:
    """Seconds of one epoch on ready tensors, without variation."""
    net, optimiser = new_network()
    ready = torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()
    truth = torch.from_numpy(classes)
    began = time.perf_counter()
    for rows in torch.randperm(len(ready)).split(BATCH):
        step(net, optimiser, ready[rows], truth[rows])
    return time.perf_counter() - began


def our_epoch(crops: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Seconds of one epoch of the product, and the share of it that the network was busy."""
    from napari_leukocls.architectures import registry
    from napari_leukocls.models.crop_rule import CropRule
    from napari_leukocls.progress import CancelToken, drain
    from napari_leukocls.training.batches import Material, Normalisation
    from napari_leukocls.training.config import make_train_config
    from napari_leukocls.training.distributed import Backend
    from napari_leukocls.training.network import Start
    from napari_leukocls.training.trainer import Fit

    config = make_train_config(
        data="-",
        out="-",
        arch="mobilenetv2_100",
        side_px=SIDE,
        batch_size=BATCH,
        epochs=1,
        device="cpu",
        stain=0.0,
    )
    names = tuple(f"class {k}" for k in range(CLASSES))
    entry = registry.entry("mobilenetv2_100")
    net = registry.create("mobilenetv2_100", CLASSES)
    start = Start(net, entry, {}, names, CropRule(side_px=SIDE), (0.5,) * 3, (0.5,) * 3)
    material = Material(
        crops, classes, np.arange(len(crops)), np.arange(2), Normalisation((0.5,) * 3, (0.5,) * 3)
    )
    fit = Fit(start, material, config, Backend("cpu", config), None, {}, 0)
    record = drain(fit.run(CancelToken())).history[0]
    return len(crops) / record["crops_per_s"], record["busy"]


def throughput(args: argparse.Namespace) -> dict[str, Any]:
    """Let the loops take turns."""
    crops, classes = random_crops(args.crops)
    for work in (our_epoch, bare_epoch):
        work(crops[:64], classes[:64])
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(args.turns):
        seconds, busy = our_epoch(crops, classes)
        took["ours"].append(seconds)
        took["busy"].append(busy)
        took["plain_no_workers"].append(plain_epoch(crops, classes, 0))
        took["plain_two_workers"].append(plain_epoch(crops, classes, 2))
        took["bare"].append(bare_epoch(crops, classes))
        print({name: round(values[-1], 2) for name, values in took.items()}, file=sys.stderr, flush=True)
    ours = statistics.median(took["ours"])
    ratios = {
        f"times_as_fast_as_{name}": statistics.median(took[name]) / ours
        for name in ("plain_no_workers", "plain_two_workers", "bare")
    }
    return {
        "crops": args.crops,
        "turns": args.turns,
        "threads": torch.get_num_threads(),
        "crops_per_s": args.crops / ours,
        "busy": statistics.median(took["busy"]),
        **ratios,
    }


def fine_tune(args: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune the default and say what each stage took."""
    from napari_leukocls.training.config import make_train_config
    from napari_leukocls.training.run import iter_train

    with tempfile.TemporaryDirectory() as folder:
        table = some_rows(Path(args.data), args.crops, Path(folder))
        more: dict[str, Any] = {"epochs": args.epochs}
        if args.what == "head":
            more |= {"freeze": "head", "ema": 0.0, "epochs": 20}
        config = make_train_config(
            "quick", data=str(table), out=folder, from_model="default", ready_crops=args.ready, **more
        )
        stages: dict[str, float] = defaultdict(float)
        busy, stage, began = [], "read", time.perf_counter()
        first, first_cpu, event = began, time.process_time(), None
        for event in iter_train(config):
            now = time.perf_counter()
            stages[stage] += now - began
            began = now
            if event.kind == "progress":
                stage = event.data["stage"]
            elif event.kind in ("split", "epoch"):
                stage = "train"
                busy += [event.data["busy"]] if event.kind == "epoch" else []
        assert event is not None
        return {
            "what": args.what,
            "crops": args.crops,
            "epochs": config.epochs,
            "threads": torch.get_num_threads(),
            "seconds": {name: round(value, 1) for name, value in stages.items()},
            "all_seconds": round(time.perf_counter() - first, 1),
            "processor_seconds": round(time.process_time() - first_cpu, 1),
            "busy": statistics.median(busy),
            "test": {name: event.data["test"].get(name) for name in ("n", "accuracy", "macro_f1")},
        }


def some_rows(data: Path, count: int, folder: Path) -> Path:
    """A table of evenly spread crops of the data."""
    import csv

    from napari_leukocls.classification.dataset import list_crops
    from napari_leukocls.scheme import default_scheme

    crops = list_crops(data, default_scheme())
    chosen = [crops[k] for k in np.linspace(0, len(crops) - 1, min(count, len(crops))).round().astype(int)]
    with (folder / "crops.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "class", "um_per_px"])
        for crop in chosen:
            writer.writerow([str(crop.path.resolve()), crop.class_name, crop.um_per_px or ""])
    return folder / "crops.csv"


def main() -> None:
    """Parse the command line, measure, and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["throughput", "quick", "head"])
    parser.add_argument("--data")
    parser.add_argument("--crops", type=int)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--ready", action="store_true")
    args = parser.parse_args()
    args.crops = args.crops or (512 if args.what == "throughput" else 2000)
    if args.what != "throughput" and not args.data:
        parser.error("give --data: a folder of class folders, or a CSV with columns file,class")
    print(json.dumps(throughput(args) if args.what == "throughput" else fine_tune(args), indent=1))


if __name__ == "__main__":
    main()
