"""Checkpoints: one safetensors file that holds everything a training needs to go on to the same numbers.

Tensors are stored as such; epoch, schedule, optimiser settings and history are JSON in the file's header.
There are no pickles. The file appears under its name only when it is whole, so that a training that is killed
at any moment leaves its last checkpoint readable.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from napari_leukocls.errors import ModelError
from napari_leukocls.io.atomic import atomic_bytes

FILE = "checkpoint.safetensors"

FORMAT = 1
#: What may differ between a checkpoint and the training that goes on from it.
FREE = frozenset({"device", "checkpoint_minutes", "restart", "minutes", "name", "out", "data", "corrections"})


def save_checkpoint(
    path: Path,
    networks: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    best: dict[str, torch.Tensor],
    state: dict[str, Any],
) -> None:
    """Write a checkpoint.

    Parameters
    ----------
    path : Path
    networks : dict of torch.nn.Module
        By name: the network, its moving average.
    optimiser : torch.optim.Optimizer
    best : dict of torch.Tensor
        Weights of the best epoch so far; may be empty.
    state : dict
        Plain values.

    Raises
    ------
    OutputError
        Where it cannot be written; the one before stays as it was.
    """
    tensors = {
        f"{name}/{key}": value for name, net in networks.items() for key, value in net.state_dict().items()
    }
    tensors |= {f"best/{key}": value for key, value in best.items()}
    moments, settings = _optimiser_parts(optimiser)
    tensors |= moments
    tensors["random/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    state = {**state, "format": FORMAT, "optimiser": settings}
    whole = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    # Not by safetensors' own writing to a file: its errors do not distinguish a full disk from another fault.
    atomic_bytes(path, save(whole, metadata={"state": json.dumps(state)}))


def _optimiser_parts(optimiser: torch.optim.Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimiser's tensors by name, and the rest of its state as plain values."""
    state = optimiser.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"optimiser/{index}/{key}"] = value
            else:
                plain.setdefault(str(index), {})[key] = value
    return tensors, {"groups": state["param_groups"], "plain": plain}


def read_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a checkpoint.

    Parameters
    ----------
    path : Path

    Returns
    -------
    tuple of dict
        Tensors by name, and plain state.

    Raises
    ------
    ModelError
        Where it is damaged or of a newer format.
    """
    advice = "start anew with --restart, or choose another folder"
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"the checkpoint {path} is damaged ({error}): {advice}.") from error
    if state.get("format") != FORMAT:
        raise ModelError(f"the checkpoint {path} is of another version of the product: {advice}.")
    return tensors, state


def part(tensors: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Return the tensors under a name, without it.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
    name : str

    Returns
    -------
    dict of str to torch.Tensor
    """
    return {key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(f"{name}/")}


def restore(
    tensors: dict[str, torch.Tensor],
    state: dict[str, Any],
    networks: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    path: Path,
) -> None:
    """Put the state of a checkpoint back.

    Parameters
    ----------
    tensors : dict of str to torch.Tensor
    state : dict
    networks : dict of str to torch.nn.Module
    optimiser : torch.optim.Optimizer
    path : Path

    Raises
    ------
    ModelError
        Where it is of another network.
    """
    try:
        for name, net in networks.items():
            net.load_state_dict(part(tensors, name))
        values: dict[int, dict[str, Any]] = {
            int(index): dict(plain) for index, plain in state["optimiser"]["plain"].items()
        }
        for key, value in part(tensors, "optimiser").items():
            index, _, field = key.partition("/")
            values.setdefault(int(index), {})[field] = value
        optimiser.load_state_dict({"state": values, "param_groups": state["optimiser"]["groups"]})
    except (RuntimeError, ValueError, KeyError) as error:
        raise ModelError(
            f"the checkpoint {path} is of another network: start anew with --restart, or take another folder."
        ) from error
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random/cuda"])


def agree(theirs: dict[str, Any], mine: dict[str, Any], path: Path) -> None:
    """Refuse a checkpoint of another training.

    Parameters
    ----------
    theirs : dict
        Settings of the checkpoint.
    mine : dict
        Settings of this training.
    path : Path

    Raises
    ------
    ModelError
        The line names the first thing that differs.
    """
    # The architecture first: who sees two things differ wants to know the larger one.
    names = sorted(set(theirs) | set(mine), key=lambda name: (name != "architecture", name))
    for name in names:
        if name not in FREE and theirs.get(name) != mine.get(name):
            raise ModelError(
                f"the checkpoint {path} is of another training ({name} was {_short(theirs.get(name))}, is "
                f"{_short(mine.get(name))}): start anew with --restart, or choose another folder."
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def plain_schedule(schedule: torch.optim.lr_scheduler.LRScheduler) -> dict[str, Any]:
    """Return the state of a schedule as JSON has it; its functions are made again from the settings.

    Parameters
    ----------
    schedule : torch.optim.lr_scheduler.LRScheduler

    Returns
    -------
    dict
    """
    return {
        name: value
        for name, value in schedule.state_dict().items()
        if isinstance(value, (bool, int, float, str, list, type(None)))
    }
