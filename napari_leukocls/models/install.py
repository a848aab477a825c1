"""Model folders: `write_model` is the only writer; models are installed, renamed and made active with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_leukocls.errors import ArgumentError, ModelError, OutputError
from napari_leukocls.io.atomic import make_folder, replacing_folder
from napari_leukocls.io.serialise import sha256_of, write_json
from napari_leukocls.models.card import ModelCard, read_card
from napari_leukocls.models.registry import (
    CARD_NAME,
    WEIGHTS_NAME,
    ModelEntry,
    find_model,
    list_models,
    set_active_classifier,
)
from napari_leukocls.models.weights import check_digest, weights_bytes
from napari_leukocls.paths import user_data_dir

if TYPE_CHECKING:
    import torch

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

#: Files of a model folder that are installed with it.
_KINDS = frozenset({".json", ".safetensors", ".csv", ".md", ".txt"})


def write_model(
    folder: Path,
    card: ModelCard,
    tensors: Mapping[str, torch.Tensor] | bytes,
    extra: Callable[[Path, str], None] | None = None,
) -> str:
    """Write a model folder, or replace an older model there.

    Parameters
    ----------
    folder : Path
        Appears whole or not at all.
    card : ModelCard
        Its ``weights_sha256`` is set to that of the weights.
    tensors : mapping of str to torch.Tensor, or bytes
        State dict of the network and ``ood.*``; or the contents of a ``weights.safetensors`` as they are.
    extra : callable, optional
        Called with the folder while it is still hidden, and with the SHA-256 of the weights, to write further
        files such as ``split.csv``.

    Returns
    -------
    str
        SHA-256 of the weights.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds something that is no model.
    """
    raw = tensors if isinstance(tensors, bytes) else weights_bytes(tensors)
    digest = sha256_of(raw)
    make_folder(folder.parent)
    with replacing_folder(folder, mark=CARD_NAME) as hidden:
        # Bytes, not the library's own file, which nobody but its owner could read.
        (hidden / WEIGHTS_NAME).write_bytes(raw)
        if extra is not None:
            extra(hidden, digest)
        write_card(hidden, card.model_copy(update={"weights_sha256": digest}))
    return digest


def write_card(folder: Path, card: ModelCard) -> None:
    """Replace the card of a model; the weights and all other files stay.

    Parameters
    ----------
    folder : Path
        Of the model.
    card : ModelCard

    Raises
    ------
    OutputError
        If the card cannot be written.
    """
    write_json(folder / CARD_NAME, card.model_dump(mode="json"))


def check_model_name(name: str) -> str:
    """Check that a name may be a model's folder.

    Parameters
    ----------
    name : str

    Returns
    -------
    str
        The same.

    Raises
    ------
    ArgumentError
        If it holds anything but letters, digits, ``.``, ``_`` and ``-``, or does not begin with a letter or digit.
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"{name!r} cannot name a model: use letters, digits, '.', '_' and '-', beginning with a letter or digit."
        )
    return name


def install_folder(source: Path, name: str, *, replace: bool = False) -> Path:
    """Copy a classifier into the user's models; its card gets the new name.

    Parameters
    ----------
    source : Path
        The folder of a classifier.
    name : str
        Under which it is found from now on.
    replace : bool
        Whether a model of that name may be replaced.

    Returns
    -------
    Path
        Of the installed model.

    Raises
    ------
    ModelError
        If the card or the weights cannot be read.
    OutputError
        If there is a model of that name and `replace` is false, or the folder cannot be written.
    """
    target = user_data_dir() / "models" / check_model_name(name)
    if target.resolve() == source.resolve():
        return target
    if target.exists() and not replace:
        raise OutputError(f"there is a model {name!r} already: choose another name, or --replace it.")
    card = read_card(source).model_copy(update={"name": name})
    try:
        raw = (source / WEIGHTS_NAME).read_bytes()
    except OSError as error:
        raise ModelError(f"{source} has no readable {WEIGHTS_NAME}. Copy the model again.") from error
    check_digest(card, sha256_of(raw), source)

    def others(hidden: Path, digest: str) -> None:
        for file in sorted(source.iterdir()):
            if file.is_file() and file.suffix in _KINDS and file.name not in (CARD_NAME, WEIGHTS_NAME):
                shutil.copyfile(file, hidden / file.name)

    write_model(target, card, raw, others)
    return target


def activate(entry: ModelEntry) -> ModelEntry:
    """Make a model the active one; one that lies elsewhere is copied into the user's models first.

    A bundled model, and another model of the same name, are never overwritten: the copy then gets a number.

    Parameters
    ----------
    entry : ModelEntry

    Returns
    -------
    ModelEntry
        Of the active model.

    Raises
    ------
    ModelError
        If the model cannot be read.
    OutputError
        If the copy or the choice cannot be written.
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
        install_folder(entry.path, name, replace=True)
    set_active_classifier(name)
    return find_model(name)


def _same(one: ModelEntry, other: ModelEntry) -> bool:
    """Whether two folders hold one model: the same weights, and cards that differ in the name at most."""
    try:
        # The hash in a card may be missing; the files decide.
        cards = [
            read_card(entry.path).model_copy(update={"name": "", "weights_sha256": None})
            for entry in (one, other)
        ]
        return cards[0] == cards[1] and sha256_of(one.weights) == sha256_of(other.weights)
    except (ModelError, OSError):
        # What cannot be read is another model: it is left alone.
        return False
