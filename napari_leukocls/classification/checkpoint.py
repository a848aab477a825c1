"""Classifiers from model folders: card, safetensors, and the checks between them."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from napari_leukocls.classification.card import ModelCard, read_card
from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    import torch

    from napari_leukocls.classification.predict import Classifier

OOD_PREFIX = "ood."
#: Arguments by which timm would read or fetch other weights than the model's own; no card has a say in that.
_LOADING = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
)


def read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Read ``weights.safetensors`` of a model folder.

    Returns
    -------
    tensors : dict of torch.Tensor
    digest : str
        SHA-256 of the file.

    Raises
    ------
    ModelError
        Where the file is missing, damaged, or a pickle: pickles can run code and are never loaded.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / "weights.safetensors"
    try:
        raw = path.read_bytes()
    except OSError as error:
        others = sorted(
            p.name for p in folder.glob("*") if p.suffix in {".pt", ".pth", ".bin", ".pkl", ".ckpt"}
        )
        hint = f" {others[0]} is a pickle, which is not loaded: convert it to safetensors." if others else ""
        raise ModelError(
            f"{folder} has no readable weights.safetensors.{hint or ' Copy the model again.'}"
        ) from error
    if raw[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or raw[:4] == b"PK\x03\x04":
        raise ModelError(f"{path} is a pickle, not safetensors: it is not loaded; convert it to safetensors.")
    try:
        return load(raw), hashlib.sha256(raw).hexdigest()
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model again.") from error


def build_network(card: ModelCard, tensors: dict[str, torch.Tensor], folder: Path) -> torch.nn.Module:
    """Build the card's architecture and give it the weights.

    Raises
    ------
    ModelError
        Where the weights do not fit the architecture that the card names.
    """
    from napari_leukocls.architectures.registry import create

    refused = sorted(_LOADING & set(card.arguments))
    if refused:
        raise ModelError(
            f"the card in {folder} asks its architecture for {refused[0]}: weights come from "
            "weights.safetensors alone; take it out of the card's arguments."
        )
    try:
        net = create(card.architecture, len(card.classes), **card.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(
            f"the card in {folder} gives {card.architecture} arguments that it does not take ({error}): "
            "copy the model again."
        ) from error
    wanted = net.state_dict()
    given = {name: value for name, value in tensors.items() if not name.startswith(OOD_PREFIX)}
    wrong = [name for name in wanted if name not in given or given[name].shape != wanted[name].shape]
    wrong += [name for name in given if name not in wanted]
    if wrong:
        raise ModelError(
            f"the card in {folder} says {card.architecture} with {len(card.classes)} classes, but the "
            f"weights do not fit it ({len(wrong)} tensors differ, first {wrong[0]}): copy card and weights "
            "again, together."
        )
    net.load_state_dict({name: value.to(wanted[name].dtype) for name, value in given.items()})
    return net.eval()


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
    from napari_leukocls.classification.predict import Classifier

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
    from napari_leukocls.resources import find_model

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
    import numpy as np

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
