"""Results of analyses that never ran: small, exact, and quick to make."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from safetensors import safe_open
from safetensors.numpy import save

from napari_leukocls.classification import fine
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.measurement.cells import build_cell_table
from napari_leukocls.measurement.differential import unsigned
from napari_leukocls.measurement.fine import count_cells
from napari_leukocls.measurement.red_cell_findings import with_red_cells
from napari_leukocls.measurement.red_cell_table import RED_CELL_COLUMNS
from napari_leukocls.models.registry import CARD_NAME, WEIGHTS_NAME, find_model
from napari_leukocls.scheme import default_scheme
from napari_leukocls.types import (
    FieldResult,
    FineShares,
    Predictions,
    Scale,
    Segmentation,
    SlideResult,
    SmearImage,
)

CLASSES = (
    "neutrophil eosinophil basophil lymphocyte monocyte immature_granulocyte erythroblast platelet".split()
)

FINER = ("segmented_neutrophil", "band_neutrophil", "metamyelocyte", "myelocyte", "promyelocyte")


def fine_shares(n: int) -> FineShares:
    """Shares that tell two of three cells of a class apart."""
    parents = ("neutrophil",) * 2 + ("immature_granulocyte",) * 3
    kinds = np.array(
        [[0.9, 0.1, 0.8, 0.1, 0.1], [0.2, 0.8, 0.1, 0.1, 0.8], [0.6, 0.4, 0.4, 0.3, 0.3]], np.float32
    )
    shares = kinds[np.arange(n) // len(CLASSES) % 3]
    return FineShares(FINER, parents, shares, (0.7,) * 5)


def discs_on_a_grid(shape: tuple[int, int], pitch: int) -> np.ndarray:
    """Labels of discs, numbered in reading order."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    disc = (y % pitch - pitch // 2) ** 2 + (x % pitch - pitch // 2) ** 2 < (0.4 * pitch) ** 2
    labels = np.where(disc, (y // pitch) * (width // pitch + 1) + x // pitch + 1, 0)
    numbered = np.unique(labels, return_inverse=True)[1]
    return numbered.reshape(shape).astype(np.int32)


def make_result(
    slide_id: str = "field 1",
    shape: tuple[int, int] = (240, 360),
    pitch: int = 40,
    *,
    seed: int = 0,
    source: str = "/data/field 1.png",
    classifier_hash: str = "cd",
    every: int = 2,
    depth: str = "classes",
) -> FieldResult:
    """Discs on a grid; every `every`-th is a leukocyte, and every fifth of those is unsure.

    Cells are numbered in reading order; `seed` changes the pixels alone. At depth ``fine``, of each three neutrophils
    one is segmented, one is a band and one is not told apart, and so on with the immature granulocytes.
    """
    labels = discs_on_a_grid(shape, pitch)
    n = int(labels.max())
    pixels = np.random.default_rng(seed).integers(225, 245, (*shape, 3), dtype=np.uint8)
    pixels[labels > 0] = (210, 150, 160)
    classified = np.arange(every, n + 1, every)
    kinds = np.tile(np.array([0.98, 0.01, 0.01], np.float32), (n, 1))
    kinds[classified - 1] = (0.1, 0.9, 0)
    probabilities = np.full((len(classified), len(CLASSES)), 0.01, np.float32)
    probabilities[np.arange(len(classified)), np.arange(len(classified)) % len(CLASSES)] = 0.93
    probabilities[4::5] = 1 / len(CLASSES)
    predicted = Predictions(tuple(CLASSES), probabilities, np.full(len(classified), 0.1, np.float32), 1.0)
    scale = Scale(7.5 / (0.8 * pitch), 0.8 * pitch, "red_cell_ruler", n, 0.01)
    found = Segmentation(labels, kinds, (235.0, 235.0, 235.0), scale)
    finer = FINER if depth == "fine" else None
    if finer is not None:
        predicted = replace(predicted, fine=fine_shares(len(classified)))
    um = scale.um_per_px
    cells = build_cell_table(found, predicted, classified, slide_id, um, CLASSES, 0.5, finer=finer)
    counts = count_cells(cells, default_scheme(), CLASSES, finer, slide_id=slide_id)
    run: dict[str, Any] = {
        "version": "0.1.0",
        "seconds": 0.5,
        "segmenter": {"name": "compact", "sha256": "ab" * 32},
        "classifier": {"name": "default", "sha256": classifier_hash * 32, "classes": list(CLASSES)},
        "settings": {"segmenter": "compact", "min_confidence": None, "where": Path("x")},
    }
    if finer is not None:
        run["classifier"] |= {"fine_classes": list(FINER)}
        run["settings"] |= {"depth": depth}
    return FieldResult(
        cells, counts, run, ("look",), image=SmearImage(pixels, slide_id, source), segmentation=found
    )


def with_shapes(result: FieldResult) -> FieldResult:
    """A result whose red cells have shapes in turn; every fourth is not measured, and schistocytes wait."""
    cells = result.cells[result.cells["predicted_class"] == "red_cell"]
    n = len(cells)
    turn = np.arange(n) % 4
    shape = np.array(["normal_red_cell", "schistocyte", "spherocyte", ""], dtype=object)[turn]
    table = pd.DataFrame(dict.fromkeys(RED_CELL_COLUMNS, 1.0), index=range(n))
    for name in cells.columns.intersection(list(RED_CELL_COLUMNS)):
        table[name] = cells[name].to_numpy()
    table = table.assign(
        measured=turn != 3,
        left_out=np.where(turn == 3, "edge", ""),
        shape=shape,
        predicted_shape=shape,
        probability=np.where(turn == 3, np.nan, 0.5 + 0.01 * np.arange(n)),
        needs_review=turn == 1,
        review_reason=np.where(turn == 1, "rare shape", ""),
        reviewer="",
        inclusions=0,
    )
    run = {**result.run, "red_cells": {"name": "none", "classes": list(default_scheme().shapes())}}
    return with_red_cells(replace(result, red_cells=table[list(RED_CELL_COLUMNS)], run=run))


def make_head(folder: Path, digest: str, n_features: int = 4, **card: object) -> Path:
    """Write a head of random weights for finer classes into a model's folder."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    tensors = {"weight": random.normal(size=(5, n_features)), "bias": random.normal(size=5)}
    (folder / fine.WEIGHTS_NAME).write_bytes(save({k: v.astype(np.float32) for k, v in tensors.items()}))
    parts = {"neutrophil": FINER[:2], "immature_granulocyte": FINER[2:]}
    known = {"weights_sha256": digest, "classes": parts, "thresholds": dict.fromkeys(parts, 0.6)}
    (folder / fine.CARD_NAME).write_text(json.dumps({**known, **card}))
    return folder


def model_with_head(models: Path) -> Path:
    """Copy the default model with a random head of its weights; the folder of models is returned."""
    source = find_model("default").path
    folder = models / "default"
    folder.mkdir(parents=True)
    for name in (CARD_NAME, WEIGHTS_NAME):
        shutil.copy(source / name, folder)
    with safe_open(folder / WEIGHTS_NAME, "np") as weights:
        n_features = weights.get_slice("classifier.weight").get_shape()[1]
    make_head(folder, sha256_of(folder / WEIGHTS_NAME), n_features)
    return models


def counted(
    settled: Mapping[str, int], waiting: Mapping[str, int] | None = None, **changes: Any
) -> SlideResult:
    """A slide with so many cells of each class, and so many that wait for review."""
    rows = [(name, False) for name, n in settled.items() for _ in range(n)]
    rows += [(name, True) for name, n in (waiting or {}).items() for _ in range(n)]
    names = [name for name, _ in rows]
    cells = pd.DataFrame(
        {
            "slide_id": ["S1"] * len(rows),
            "cell_id": np.arange(1, len(rows) + 1, dtype=np.int32),
            "class": pd.Series(names, dtype=object),
            "predicted_class": pd.Series(names, dtype=object),
            "corrected_class": pd.Series([""] * len(rows), dtype=object),
            "needs_review": [unsure for _, unsure in rows],
        }
    )
    counts = count_cells(cells, default_scheme(), CLASSES, changes.pop("finer", None), slide_id="S1")
    run: dict[str, Any] = {
        "version": "1.0",
        "segmenter": {"name": "compact", "sha256": "ab"},
        "classifier": {"name": "default", "sha256": "cd", "classes": list(CLASSES)},
        **changes.pop("run", {}),
    }
    made = SlideResult("S1", "/data/S1.png", 0.1, cells, counts, run)
    return replace(made, **{"signature": unsigned(cells), **changes})
