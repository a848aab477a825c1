"""Classifiers from model folders: the card, the weights, and the checks between them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_leukocls.classification.classifier import Classifier
from napari_leukocls.classification.fine import CARD_NAME as FINE_CARD_NAME
from napari_leukocls.classification.fine import load_fine_head
from napari_leukocls.errors import ModelError
from napari_leukocls.models.card import ModelCard, read_card
from napari_leukocls.models.registry import CARD_NAME, find_model
from napari_leukocls.models.weights import OOD_PREFIX, build_network, check_digest, read_weights
from napari_leukocls.progress import drain


def load_classifier(folder: Path, device: str) -> Classifier:
    """Load a classifier for prediction.

    `napari_leukocls.analysis.engine.cached_classifier` does the same and keeps what it loaded.

    Parameters
    ----------
    folder : Path
        Holds ``model.json`` and ``weights.safetensors``.
    device : str
        A torch device.

    Returns
    -------
    Classifier

    Raises
    ------
    ModelError
        If anything is missing, damaged, or does not fit; in one line.
    """
    card = read_card(folder)
    tensors, digest = read_weights(folder)
    check_digest(card, digest, folder)
    net = build_network(card, tensors, folder)
    ood = {
        name[len(OOD_PREFIX) :]: value.float()
        for name, value in tensors.items()
        if name.startswith(OOD_PREFIX)
    }
    opinion = _second_opinion(card, folder, device)
    try:
        return Classifier(card, net, ood, digest, device, opinion)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"the network in {folder} does not take images of {card.input_size} pixels, as its card says "
            f"({error}): copy the model again."
        ) from error


def second_opinion_folder(card: ModelCard, folder: Path) -> Path | None:
    """Find the model that a model asks about unsure cells: beside its own folder, else by name.

    Parameters
    ----------
    card : ModelCard
    folder : Path
        Of the model.

    Returns
    -------
    Path or None
        None where it asks none.

    Raises
    ------
    ModelError
        If there is no such model.
    """
    if card.second_opinion is None:
        return None
    beside = folder.parent / card.second_opinion.model
    return beside if (beside / CARD_NAME).is_file() else find_model(card.second_opinion.model).path


def _second_opinion(card: ModelCard, folder: Path, device: str) -> Classifier | None:
    """Load the model that a card asks about unsure cells."""
    asked = card.second_opinion
    if asked is None:
        return None
    try:
        source = second_opinion_folder(card, folder)
        assert source is not None
        other = load_classifier(source, device)
    except ModelError as error:
        raise ModelError(
            f"the model {card.name} asks the model {asked.model} about unsure cells, which cannot be used: {error}"
        ) from error
    same = other.classes == tuple(card.classes) and other.card.crop == card.crop
    if other.digest != asked.sha256 or not same or other.card.second_opinion is not None:
        raise ModelError(
            f"the model {card.name} asks the model {asked.model} about unsure cells, but {source} is another one: "
            "copy both again, together."
        )
    return other


def verify(folder: Path) -> list[str]:
    """Check the folder of a classifier end to end.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of str
        What was checked, in plain lines.

    Raises
    ------
    ModelError
        If anything is wrong; the line says what was found first.
    """
    classifier = load_classifier(folder, "cpu")
    side = classifier.card.crop.side_px
    grey = np.full((2, side, side, 3), 200, np.uint8)
    classifier.predict(grey)
    finer = []
    if (folder / FINE_CARD_NAME).exists():
        head = load_fine_head(folder, classifier.digest, classifier.classes)
        drain(classifier.iter_predict(grey, fine=head))
        finer = [f"finer classes: {', '.join(head.classes)}, of these weights"]
    return [
        f"card: format {classifier.card.format_version}, {len(classifier.card.classes)} classes",
        f"weights: SHA-256 {classifier.digest}"
        + (", as the card says" if classifier.card.weights_sha256 else ""),
        f"architecture: {classifier.card.architecture} takes the weights",
        "prediction: finite probabilities on a grey crop",
        *finer,
    ]
