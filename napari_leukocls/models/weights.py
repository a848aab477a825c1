"""The weights of a model: safetensors in and out, and the network that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from napari_leukocls.architectures.registry import create
from napari_leukocls.errors import ModelError
from napari_leukocls.io.serialise import sha256_of
from napari_leukocls.models.card import ModelCard
from napari_leukocls.models.registry import WEIGHTS_NAME

#: What the names of the out-of-distribution score's tensors begin with.
OOD_PREFIX = "ood."

#: Arguments by which timm would read or fetch other weights than the model's own; no card has a say in that.
_LOADING = frozenset(
    {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
)


def weights_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """Encode tensors as safetensors.

    Parameters
    ----------
    tensors : mapping of str to torch.Tensor

    Returns
    -------
    bytes
        Contents of ``weights.safetensors``.
    """
    # Cloned: tensors that share memory cannot be stored.
    return save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    """Read ``weights.safetensors`` of a model folder.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    tensors : dict of torch.Tensor
    digest : str
        SHA-256 of the file.

    Raises
    ------
    ModelError
        If the file is missing, damaged, or a pickle: pickles can run code and are never loaded.
    """
    path = folder / WEIGHTS_NAME
    try:
        raw = path.read_bytes()
    except OSError as error:
        others = sorted(
            p.name for p in folder.glob("*") if p.suffix in {".pt", ".pth", ".bin", ".pkl", ".ckpt"}
        )
        hint = f" {others[0]} is a pickle, which is not loaded: convert it to safetensors." if others else ""
        raise ModelError(
            f"{folder} has no readable {WEIGHTS_NAME}.{hint or ' Copy the model again.'}"
        ) from error
    if raw[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or raw[:4] == b"PK\x03\x04":
        raise ModelError(f"{path} is a pickle, not safetensors: it is not loaded; convert it to safetensors.")
    try:
        return load(raw), sha256_of(raw)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged ({error}): copy the model again.") from error


def check_digest(card: ModelCard, digest: str, folder: Path) -> None:
    """Check that the weights are those that the card was written for.

    Parameters
    ----------
    card : ModelCard
        May state no hash; then there is nothing to check.
    digest : str
        SHA-256 of the weights.
    folder : Path
        Of the model, for the message.

    Raises
    ------
    ModelError
        If they are not: figures and limits of the card would be wrong for them.
    """
    if card.weights_sha256 and card.weights_sha256 != digest:
        raise ModelError(
            f"the weights in {folder} are not those of the card (SHA-256 differs): copy both again, together."
        )


def build_network(card: ModelCard, tensors: dict[str, torch.Tensor], folder: Path) -> torch.nn.Module:
    """Build the card's architecture and give it the weights.

    Parameters
    ----------
    card : ModelCard
    tensors : dict of str to torch.Tensor
        From `read_weights`; those of the out-of-distribution score are passed over.
    folder : Path
        Of the model, for messages.

    Returns
    -------
    torch.nn.Module
        In evaluation mode.

    Raises
    ------
    ModelError
        If the weights do not fit the architecture that the card names.
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
