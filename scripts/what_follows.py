"""What holds only with the weights that it was fitted on: replay, morphology, finer classes, checks of heatmaps.

After another training all of it is made anew. Where only the score of unknown cells was fitted again, the network is
the same, and the files are bound to the new weights as they are.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from napari_leukocls.classification.loading import second_opinion_folder
from napari_leukocls.models.card import read_card
from napari_leukocls.models.install import write_card
from napari_leukocls.models.provenance import NAMES_NAME
from napari_leukocls.models.registry import read_card_json
from napari_leukocls.models.weights import OOD_PREFIX
from napari_leukocls.training.feature_replay import FILE, read_replay, save_replay

log = logging.getLogger("what_follows")
#: Files that name the weights they were fitted on.
BOUND = ("morphology.json", "fine_classes.json")
#: Figures of the card that hold as long as the network is the same.
KEPT = ("explanation_checks",)


def is_same_network(folder: Path, weights: dict[str, torch.Tensor]) -> bool:
    """Whether a model folder holds a network with exactly these weights.

    Parameters
    ----------
    folder : Path
    weights : dict of torch.Tensor
        Of the network, without the score of unknown cells.

    Returns
    -------
    bool
    """
    file = folder / "weights.safetensors"
    if not file.is_file():
        return False
    stored = {name: value for name, value in load_file(file).items() if not name.startswith(OOD_PREFIX)}
    return stored.keys() == weights.keys() and all(torch.equal(stored[k], weights[k]) for k in weights)


def kept_figures(folder: Path) -> dict[str, Any]:
    """Figures of a model's card that stay true while its network is the same."""
    card = read_card_json(folder)
    return {name: card[name] for name in KEPT if name in card}


def carry(old: Path, new: Path, digest: str) -> None:
    """Copy what a model folder holds into its next version, bound to the new weights.

    Parameters
    ----------
    old, new : Path
    digest : str
        SHA-256 of the new weights.
    """
    card = read_card_json(old)
    for name in BOUND:
        file = old / name
        if file.is_file():
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["weights_sha256"] == card["weights_sha256"]:
                (new / name).write_text(json.dumps(record | {"weights_sha256": digest}, indent=1) + "\n")
                shutil.copy(file.with_suffix(".safetensors"), new)
    if (old / NAMES_NAME).is_file():
        shutil.copy(old / NAMES_NAME, new)
    if (old / FILE).is_file():
        replay = read_replay(old, card["weights_sha256"], len(card["classes"]))
        save_replay(new / FILE, replay, digest)


def rebind_checks(folder: Path) -> None:
    """Bind the checks of the heatmaps in a card to the folder's weights, whose network they were made with."""
    card = read_card(folder)
    if card.explanation_checks is not None:
        kept = card.explanation_checks.model_copy(update={"weights_sha256": card.weights_sha256})
        write_card(folder, card.model_copy(update={"explanation_checks": kept}))


def make_anew(folder: Path, pack: Path, data: Path) -> None:
    """Make all of it for new weights.

    Parameters
    ----------
    folder : Path
        Of the model.
    pack, data : Path
        As for `scripts.finish_default`.
    """
    sets = ["--pack", str(pack), "--data", str(data)]
    # An adaptation fits the model that judges unsure cells, so that one needs the features.
    adapted = second_opinion_folder(read_card(folder), folder) or folder
    for arguments in (
        ["make_replay", *sets, "--model", str(adapted)],
        ["list_learnt", *{str(folder), str(adapted)}, *sets],
        ["train_morphology", str(folder), *sets],
        ["train_fine_classes", str(folder), *sets],
        ["check_explanations", str(folder), "--data", str(data)],
    ):
        log.info("scripts.%s", " ".join(arguments))
        subprocess.run([sys.executable, "-m", f"scripts.{arguments[0]}", *arguments[1:]], check=True)
