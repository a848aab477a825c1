"""Safetensors in and out; build_network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_leukocls.architectures.registry import create
from napari_leukocls.errors import ModelError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import ModelCard


def write_weights(folder: Path, net: torch.nn.Module, tensors: dict[str, np.ndarray]) -> str:
    """Write ``weights.safetensors``; return its SHA-256."""
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in net.state_dict().items()}
    whole |= {f"ood.{name}": torch.from_numpy(value).contiguous() for name, value in tensors.items()}
    # Bytes, not the library's own file, which nobody but its owner could read.
    raw = save(whole)
    (folder / "weights.safetensors").write_bytes(raw)
    return sha256_of(raw)


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
        return load(raw), sha256_of(raw)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model again.") from error


def build_network(card: ModelCard, tensors: dict[str, torch.Tensor], folder: Path) -> torch.nn.Module:
    """Build the card's architecture and give it the weights.

    Raises
    ------
    ModelError
        Where the weights do not fit the architecture that the card names.
    """
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
