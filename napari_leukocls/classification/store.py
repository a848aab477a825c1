"""Model folders written: card and weights together, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_leukocls.classification.card import ModelCard
from napari_leukocls.errors import ArgumentError, OutputError

if TYPE_CHECKING:
    import torch

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
    from safetensors.torch import save

    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.io.folder import replacing_folder

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
    import shutil

    from napari_leukocls.io.atomic import make_folder
    from napari_leukocls.io.folder import replacing_folder
    from napari_leukocls.resources import user_data_dir

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
