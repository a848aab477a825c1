"""Classifiers from model folders: card, safetensors, and the checks between them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.errors import ModelError
from napari_leukocls.models.card import ModelCard, read_card
from napari_leukocls.models.registry import find_model
from napari_leukocls.models.weights import OOD_PREFIX, build_network, read_weights


def load_classifier(folder: Path, device: str) -> Classifier:
    """Load a classifier for prediction; one that was loaded before and has not changed since comes at once.

    Parameters
    ----------
    folder : Path
        Holds ``model.json`` and ``weights.safetensors``.
    device : str
        A torch device.

    Raises
    ------
    ModelError
        With one line, where anything does not fit.
    """
    stamps = []
    for name in ("model.json", "weights.safetensors"):
        try:
            state = (folder / name).stat()
        except OSError:
            # What is missing is said by the one that reads it.
            stamps.append((0, 0))
        else:
            stamps.append((state.st_mtime_ns, state.st_size))
    return _load(folder, device, tuple(stamps))


@lru_cache(maxsize=4)
def _load(folder: Path, device: str, stamps: tuple[tuple[int, int], ...]) -> Classifier:
    """Load a classifier; `stamps` say which state of its files it is."""
    card = read_card(folder)
    tensors, digest = read_weights(folder)
    declared = (card.model_extra or {}).get("weights_sha256")
    if declared and declared != digest:
        raise ModelError(
            f"the weights in {folder} are not those of the card (SHA-256 differs): copy both again, together."
        )
    net = build_network(card, tensors, folder)
    ood = {
        name[len(OOD_PREFIX) :]: value.float()
        for name, value in tensors.items()
        if name.startswith(OOD_PREFIX)
    }
    opinion = None if card.second_opinion is None else _second_opinion(card, folder, device)
    try:
        return Classifier(card, net, ood, digest, device, opinion)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"the network in {folder} does not take images of {card.input_size} pixels, as its card says "
            f"({error}): copy the model again."
        ) from error


def _second_opinion(card: ModelCard, folder: Path, device: str) -> Classifier:
    """Load the model that a card asks about unsure cells: beside its own folder, else by name."""
    asked = card.second_opinion
    assert asked is not None
    beside = folder.parent / asked.model
    try:
        place = beside if (beside / "model.json").is_file() else find_model(asked.model).path
        other = load_classifier(place, device)
    except ModelError as error:
        raise ModelError(
            f"the model {card.name} asks the model {asked.model} about unsure cells, which cannot be used: {error}"
        ) from error
    same = other.classes == tuple(card.classes) and other.card.crop == card.crop
    if other.digest != asked.sha256 or not same or other.card.second_opinion is not None:
        raise ModelError(
            f"the model {card.name} asks the model {asked.model} about unsure cells, but {place} is another one: "
            "copy both again, together."
        )
    return other


def verify(folder: Path) -> list[str]:
    """Check a model folder end to end; return what was checked, in plain lines.

    Raises
    ------
    ModelError
        At the first thing that is wrong.
    """
    classifier = _load.__wrapped__(folder, "cpu", ())
    side = classifier.card.crop.side_px
    grey = np.full((2, side, side, 3), 200, np.uint8)
    classifier.predict(grey)
    declared = (classifier.card.model_extra or {}).get("weights_sha256")
    return [
        f"card: format {classifier.card.format_version}, {len(classifier.card.classes)} classes",
        f"weights: SHA-256 {classifier.digest}" + (", as the card says" if declared else ""),
        f"architecture: {classifier.card.architecture} takes the weights",
        "prediction: finite probabilities on a grey crop",
    ]
