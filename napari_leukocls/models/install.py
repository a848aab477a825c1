"""Write_model (the only writer of a model folder), install, make active."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save

from napari_leukocls.errors import ArgumentError, ModelError, OutputError
from napari_leukocls.io.atomic import atomic_text, make_folder, replacing_folder
from napari_leukocls.models.card import ModelCard
from napari_leukocls.models.provenance import file_sha256
from napari_leukocls.models.registry import (
    CARD_NAME,
    ModelEntry,
    find_model,
    list_models,
    read_card_json,
    set_active_classifier,
)
from napari_leukocls.paths import user_data_dir

if TYPE_CHECKING:
    import torch


def activate(entry: ModelEntry) -> ModelEntry:
    """Make a model the active one; one that lies elsewhere is copied into the user's models first.

    A bundled model, and another model of the same name, are never overwritten: the copy then gets a number.

    Returns
    -------
    ModelEntry
        Of the active model.
    """
    taken = {one.name: one for one in list_models()}
    same = taken.get(entry.name)
    if same is not None and same.origin != "environment" and same.path.resolve() == entry.path.resolve():
        set_active_classifier(entry.name)
        return same
    # A folder may be called anything; a model's name goes into tables and file names.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", entry.name).strip("-._") or "model"
    name, number = plain, 2
    while name in taken and not _same(taken[name], entry):
        name, number = f"{plain}-{number}", number + 1
    if name not in taken or taken[name].origin == "environment":
        target = install_folder(entry.path, name, replace=True)
        card = read_card_json(target)
        if card.get("name") != name:
            card["name"] = name
            atomic_text(target / CARD_NAME, json.dumps(card, indent=1, ensure_ascii=False) + "\n")
    set_active_classifier(name)
    return find_model(name)


def _same(one: ModelEntry, other: ModelEntry) -> bool:
    """Whether two folders hold one model: the same weights, and cards that differ in the name at most."""
    try:
        cards = [{**entry.card(), "name": ""} for entry in (one, other)]
        return cards[0] == cards[1] and file_sha256(one.weights) == file_sha256(other.weights)
    except (ModelError, OSError):
        # What cannot be read is another model: it is left alone.
        return False


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_model_name(name: str) -> str:
    """Return a name that may be a model's folder.

    Raises
    ------
    ArgumentError
        Where it holds anything but letters, digits, ``.``, ``_`` and ``-``, or does not begin with one of the
        first two.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-', beginning with a letter or digit."
        )
    return name


def write_model(folder: Path, card: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Write ``model.json`` and ``weights.safetensors`` into a folder, replacing an older model there.

    Parameters
    ----------
    folder : Path
        Of the model; it appears whole or not at all.
    card : mapping
        Fields of `ModelCard` and further ones; ``weights_sha256`` is filled in.
    tensors : mapping of str to torch.Tensor
        State dict of the network and ``ood.*``.

    Returns
    -------
    str
        SHA-256 of the weights file.

    Raises
    ------
    OutputError
        Where the folder cannot be written, or holds something that is no model.
    """
    # Cloned: tensors that share memory cannot be stored.
    raw = save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})
    digest = hashlib.sha256(raw).hexdigest()
    whole = {**ModelCard(**card).model_dump(mode="json"), **card, "weights_sha256": digest}
    make_folder(folder.parent)
    with replacing_folder(folder, mark="model.json") as hidden:
        (hidden / "weights.safetensors").write_bytes(raw)
        text = json.dumps(whole, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        (hidden / "model.json").write_text(text, encoding="utf-8", newline="\n")
    return digest


def install_folder(source: Path, name: str, *, replace: bool = False) -> Path:
    """Copy a model folder into the user's models under a name.

    Returns
    -------
    Path
        Of the installed model.

    Raises
    ------
    OutputError
        Where there is one of that name and `replace` is false, or the folder cannot be written.
    """
    target = user_data_dir() / "models" / check_model_name(name)
    if target.resolve() == source.resolve():
        return target
    if target.exists() and not replace:
        raise OutputError(f"there is a model {name!r} already: choose another name, or --replace it.")
    make_folder(target.parent)
    with replacing_folder(target, mark="model.json") as hidden:
        for file in sorted(source.iterdir()):
            if file.is_file() and file.suffix in {".json", ".safetensors", ".csv", ".md", ".txt"}:
                shutil.copyfile(file, hidden / file.name)
    return target
