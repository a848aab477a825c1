"""What a model can do besides classes, and how much of it a model that was trained from it keeps.

Morphology in words and finer classes are linear layers on the features of one set of weights, beside the model. A
training that changes only the last layer leaves the features as they are, so that these layers still fit.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from napari_leukocls.classification import fine
from napari_leukocls.errors import ModelError
from napari_leukocls.explanation import morphology
from napari_leukocls.explanation.trust import badge
from napari_leukocls.io.atomic import atomic_text
from napari_leukocls.io.serialise import json_text
from napari_leukocls.models.card import read_card
from napari_leukocls.models.registry import WEIGHTS_NAME
from napari_leukocls.models.weights import OOD_PREFIX

MORPHOLOGY = "morphology in words"
FINER = "finer classes"
HEATMAPS = "the checks of the heatmaps"
#: Layers beside a model: what they give, their card and their weights.
_HEADS = (
    (MORPHOLOGY, morphology.CARD_NAME, morphology.WEIGHTS_NAME),
    (FINER, fine.CARD_NAME, fine.WEIGHTS_NAME),
)


def abilities(folder: Path) -> list[str]:
    """List what a model can do besides giving classes.

    Parameters
    ----------
    folder : Path
        Of the model.

    Returns
    -------
    list of str
        Of `MORPHOLOGY`, `FINER` and `HEATMAPS`.
    """
    card = read_card(folder)
    found = [name for name, file, weights in _HEADS if _belongs(folder, file, weights, card.weights_sha256)]
    if badge(card)[0] != "unchecked":
        found.append(HEATMAPS)
    return found


def lost(new: Path, current: Path) -> list[str]:
    """List what the current model can do and the new one cannot.

    Parameters
    ----------
    new, current : Path
        Folders of the models.

    Returns
    -------
    list of str
    """
    mine = abilities(new)
    return [name for name in abilities(current) if name not in mine]


def carry_over(new: Path, old: Path) -> list[str]:
    """Copy the layers beside a model to one that was trained from it, if only its last layer was changed.

    Parameters
    ----------
    new : Path
        Folder of the new model; the copies state its weights.
    old : Path
        Folder of the model that it was trained from.

    Returns
    -------
    list of str
        What was copied.
    """
    before, after = read_card(old), read_card(new)
    if before.crop != after.crop or (before.mean, before.std) != (after.mean, after.std):
        return []
    if not same_features(new / WEIGHTS_NAME, old / WEIGHTS_NAME, len(after.classes)):
        return []
    copied = []
    for name, card_name, weights_name in _HEADS:
        if not _belongs(old, card_name, weights_name, before.weights_sha256) or (new / card_name).exists():
            continue
        card = json.loads((old / card_name).read_text(encoding="utf-8"))
        shutil.copyfile(old / weights_name, new / weights_name)
        atomic_text(new / card_name, json_text({**card, "weights_sha256": after.weights_sha256}))
        copied.append(name)
    return copied


def same_features(new: Path, old: Path, n_classes: int) -> bool:
    """Tell whether two networks differ in their last layer at most.

    Parameters
    ----------
    new, old : Path
        Of the weights.
    n_classes : int
        Outputs of the new network.

    Returns
    -------
    bool
        False, too, if a file cannot be read.
    """
    try:
        with safe_open(new, "np") as mine, safe_open(old, "np") as theirs:
            names = {name for name in mine.keys() if not name.startswith(OOD_PREFIX)}  # noqa: SIM118
            others = {name for name in theirs.keys() if not name.startswith(OOD_PREFIX)}  # noqa: SIM118
            if names != others:
                return False
            unlike = [
                name for name in names if not np.array_equal(mine.get_tensor(name), theirs.get_tensor(name))
            ]
            rows = {mine.get_slice(name).get_shape()[0] for name in unlike}
    except (OSError, SafetensorError, IndexError):
        return False
    layers = {name.rpartition(".")[0] for name in unlike}
    # The weight and the bias of one layer with an output a class.
    return len(layers) <= 1 and rows <= {n_classes}


def _belongs(folder: Path, card_name: str, weights_name: str, digest: str | None) -> bool:
    """Whether a model has a layer beside it that was fitted on its weights."""
    try:
        card = json.loads((folder / card_name).read_text(encoding="utf-8"))
        return digest is not None and card["weights_sha256"] == digest and (folder / weights_name).is_file()
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return False
