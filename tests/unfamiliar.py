"""A model that knows the stain and the camera of other crops than those that tests show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_leukocls.classification import familiarity
from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.models.card import ModelCard, make_card, read_card
from napari_leukocls.models.install import write_model
from napari_leukocls.models.weights import OOD_PREFIX, build_network, read_weights
from napari_leukocls.paths import bundled_dir
from napari_leukocls.progress import drain

LAYERS = ["blocks.1"]


def known_crops(classifier: Classifier, count: int = 60) -> np.ndarray:
    """Crops of coarse noise around one grey."""
    side = classifier.card.crop.side_px
    random = np.random.default_rng(0)
    coarse = random.normal(150, 40, (count, side // 8, side // 8, 3)).repeat(8, 1).repeat(8, 2)
    return np.asarray(coarse.clip(0, 255), np.uint8)


def write_unfamiliar(folder: Path, limit: float = 2.0, least_cells: int = 1, **more: Any) -> Path:
    """Write the default model with a reference of coarse noise; to it, every smear is unfamiliar.

    Returns
    -------
    pathlib.Path
        Folder of the model.
    """
    source = bundled_dir("models") / "default"
    tensors, _ = read_weights(source)
    card = read_card(source).model_dump(mode="json") | {
        "name": "stranger",
        "familiarity": {"layers": LAYERS, "limit": limit, "least_cells": least_cells},
        **more,
    }
    card.pop("weights_sha256")
    model = ModelCard(**card)
    classifier = Classifier(model, build_network(model, tensors, source), {}, "", "cpu")
    found = drain(classifier.look(known_crops(classifier)))
    slides = np.repeat(["one", "two"], 30)
    shares = torch.softmax(torch.from_numpy(found.logits), 1).numpy()
    fitted = familiarity.fit(found.layers, shares, slides, np.full(60, "noise"))
    own = {name: value for name, value in tensors.items() if not name.startswith(f"{OOD_PREFIX}slide_")}
    own |= {f"{OOD_PREFIX}{name}": torch.from_numpy(value) for name, value in fitted.items()}
    write_model(folder / "stranger", make_card(card, "of stranger"), own)
    load_classifier(folder / "stranger", "cpu")
    return folder / "stranger"
