"""What can be asked of a network: parameters, multiply-accumulates, stages, the layer for Grad-CAM."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_leukocls.architectures.entry import Entry
from napari_leukocls.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def count_parameters(net: nn.Module) -> int:
    """Count the parameters, trainable or not; running statistics are not counted.

    Parameters
    ----------
    net : torch.nn.Module

    Returns
    -------
    int
    """
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, side: int) -> int:
    """Count the multiply-accumulates of one image.

    Products of convolutions, linear layers and attention count, as in fvcore. Torch's counter, which is used here,
    counts two operations for each. The network's training mode is kept.

    Parameters
    ----------
    net : torch.nn.Module
    side : int
        Of the image, pixels.

    Returns
    -------
    int
    """
    weight = next(net.parameters())
    images = torch.zeros(1, 3, side, side, device=weight.device, dtype=weight.dtype)
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net(images)
    finally:
        net.train(training)
    number: int = counter.get_total_flops() // 2
    return number


def unfreezing_stages(entry: Entry, net: nn.Module) -> list[list[str]]:
    """List the names of a network's parameters in the order in which to unfreeze them.

    Parameters
    ----------
    entry : Entry
    net : torch.nn.Module

    Returns
    -------
    list of list of str
        From the head to the stem. Each parameter is in exactly one stage; those that the entry does not name are in
        the last.
    """
    declared = entry.stages(net) if callable(entry.stages) else entry.stages
    stages: list[list[str]] = [[] for _ in declared] or [[]]
    for name, _ in net.named_parameters():
        fits = (
            number
            for number, prefixes in enumerate(declared)
            if any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)
        )
        stages[next(fits, -1)].append(name)
    return [stage for stage in stages if stage]


def frozen_parameters(entry: Entry, net: nn.Module) -> list[str]:
    """List the names of the parameters that a network's paper never trains.

    Parameters
    ----------
    entry : Entry
    net : torch.nn.Module

    Returns
    -------
    list of str
    """
    return [
        name
        for name, _ in net.named_parameters()
        if any(name == prefix or name.startswith(f"{prefix}.") for prefix in entry.frozen)
    ]


def cam_layer(entry: Entry, net: nn.Module) -> nn.Module:
    """Find the layer whose output Grad-CAM weighs.

    Parameters
    ----------
    entry : Entry
    net : torch.nn.Module

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ModelError
        If the entry names none, or one that the network lacks.
    """
    if callable(entry.cam_target):
        return entry.cam_target(net)
    modules = dict(net.named_modules())
    if not entry.cam_target or entry.cam_target not in modules:
        raise ModelError(
            f"the architecture {entry.name} names no layer for Grad-CAM that it has: choose another method."
        )
    value: nn.Module = modules[entry.cam_target]
    return value


def cam_reshape(entry: Entry) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Find the function that turns the output of Grad-CAM's layer to (N, C, H, W).

    Parameters
    ----------
    entry : Entry

    Returns
    -------
    callable or None
        None if nothing needs to be done.

    Raises
    ------
    ModelError
        If the entry names a way that does not exist.
    """
    if callable(entry.cam_reshape):
        return entry.cam_reshape
    ways = {
        "": None,
        "channels_last": _from_channels_last,
        "tokens": _from_tokens,
        "auto": _by_shape,
    }
    if entry.cam_reshape not in ways:
        raise ModelError(f"the architecture {entry.name} asks for the unknown reshape {entry.cam_reshape!r}.")
    return ways[entry.cam_reshape]


def _from_channels_last(output: torch.Tensor) -> torch.Tensor:
    return output.permute(0, 3, 1, 2)


def _from_tokens(output: torch.Tensor) -> torch.Tensor:
    """Drop leading class tokens, and put the others, a square, in rows."""
    count, length, width = output.shape
    side = math.isqrt(length)
    return output[:, length - side * side :].transpose(1, 2).reshape(count, width, side, side)


def _by_shape(output: torch.Tensor) -> torch.Tensor:
    """Tell tokens, (N, C, H, W) and (N, H, W, C) apart: maps are square."""
    if output.ndim == 3:
        return _from_tokens(output)
    return output if output.shape[2] == output.shape[3] else _from_channels_last(output)
