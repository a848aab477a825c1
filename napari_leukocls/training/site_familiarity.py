"""A laboratory that a model was adapted to is known from then on: the test of slides no longer warns of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from napari_leukocls.classification.familiarity import differences
from napari_leukocls.classification.loading import load_classifier
from napari_leukocls.progress import drain
from napari_leukocls.training.site_layer import Layer

#: What the names of the tensors of the test begin with.
PREFIX = "slide_"


def with_laboratory(
    folder: Path, crops: np.ndarray, layer: Layer, name: str
) -> tuple[dict[str, np.ndarray], dict[str, Any] | None]:
    """Add a laboratory to those that the test of slides knows.

    Parameters
    ----------
    folder : Path
        Of the model before.
    crops : numpy.ndarray, (N, S, S, 3), uint8
        Of the laboratory.
    layer : Layer
        The new last layer; classes that the model did not have are its last rows.
    name : str
        Of the laboratory.

    Returns
    -------
    tensors : dict of numpy.ndarray
        ``slide_*``; empty if the model has no test of slides.
    test : dict or None
        ``familiarity`` of the new card.
    """
    before = load_classifier(folder, "cpu")
    test = before.card.familiarity
    tensors = {key: value for key, value in before.ood_tensors.items() if key.startswith(PREFIX)}
    if test is None or "slide_known" not in tensors or len(crops) == 0:
        return {}, None
    centres = tensors["slide_centres"]
    # Cells of a new class are compared with the mean of all known classes.
    new = np.repeat(centres.mean(axis=0, keepdims=True), len(layer.bias) - len(centres), axis=0)
    tensors["slide_centres"] = np.concatenate([centres, new])
    seen = drain(before.look(crops))
    probabilities = softmax(layer.logits(seen.features), axis=1)
    mean = differences(seen.layers, probabilities, tensors).mean(axis=0, keepdims=True)
    tensors["slide_known"] = np.concatenate([tensors["slide_known"], mean])
    stated = test.model_dump(mode="json") | {"known": [*(test.known or []), name]}
    return {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}, stated
