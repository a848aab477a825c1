"""Small coloured discs as labelled crops, and settings under which they are learnt in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from napari_leukocls.progress import CancelToken
from napari_leukocls.training.config import TrainConfig, make_train_config
from napari_leukocls.training.events import TrainEvent
from napari_leukocls.training.run import iter_train

COLOURS = {"neutrophil": (170, 90, 200), "lymphocyte": (40, 40, 140), "eosinophil": (230, 80, 60)}
SIDE = 32


def disc(colour: tuple[int, int, int], random: np.random.Generator) -> np.ndarray:
    """A disc on glass with a few specks; no two look the same."""
    y, x = np.mgrid[:SIDE, :SIDE]
    image = np.full((SIDE, SIDE, 3), 235.0)
    centre, radius = random.uniform(12, 20, 2), random.uniform(6, 10)
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    image[inside] = np.array(colour) + random.normal(0, 12, 3)
    for _ in range(8):
        place, size = random.uniform(0, SIDE, 2), random.uniform(1, 4)
        image[(y - place[0]) ** 2 + (x - place[1]) ** 2 < size**2] = random.uniform(60, 220, 3)
    return np.clip(image + random.normal(0, 10, image.shape), 0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> None:
    """Write a PNG, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def make_crops(folder: Path, each: int = 12, seed: int = 0, colours: dict | None = None) -> Path:
    """Write class folders of discs."""
    random = np.random.default_rng(seed)
    for name, colour in (colours or COLOURS).items():
        for number in range(each):
            save(folder / name / f"{number:03}.png", disc(colour, random))
    return folder


def settings(data: Path, out: Path, **more: Any) -> TrainConfig:
    """Settings of a training of seconds."""
    plain: dict[str, Any] = {
        "data": str(data),
        "out": str(out),
        "side_px": SIDE,
        "ready_crops": True,
        "pretrained": False,
        "epochs": 2,
        "batch_size": 8,
        "lr": 3e-3,
        "device": "cpu",
        "name": "made",
    }
    if "from_model" in more:
        plain.pop("side_px")
    else:
        plain["arch"] = "test_efficientnet"
    return make_train_config(**{**plain, **more})


def train(config: TrainConfig, cancel: CancelToken | None = None) -> tuple[Path, list[TrainEvent]]:
    """Train to the end; the folder and all events."""
    events: list[TrainEvent] = []
    work = iter_train(config, cancel)
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return end.value, events
