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
    """Return the number of parameters, trainable or not; running statistics are none."""
    return sum(parameter.numel() for parameter in net.parameters())


def count_macs(net: nn.Module, side: int) -> int:
    """Return the multiply-accumulates of one image of `side` x `side` px.

    Products of convolutions, linear layers and attention count, as in fvcore; torch's counter, which is used
    here, counts two operations for each. The network's training mode is kept.
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
    return counter.get_total_flops() // 2


def unfreezing_stages(entry: Entry, net: nn.Module) -> list[list[str]]:
    """Return the names of a network's parameters in the order in which to unfreeze them.

    Returns
    -------
    list of list of str
        From the head to the stem; each parameter is in exactly one stage, and those that the entry does not
        name are in the last.
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


def cam_layer(entry: Entry, net: nn.Module) -> nn.Module:
    """Return the layer whose output Grad-CAM weighs.

    Raises
    ------
    ModelError
        Where the entry names none, or one that the network lacks.
    """
    if callable(entry.cam_target):
        return entry.cam_target(net)
    modules = dict(net.named_modules())
    if not entry.cam_target or entry.cam_target not in modules:
        raise ModelError(
            f"the architecture {entry.name} names no layer for Grad-CAM that it has: choose another method."
        )
    return modules[entry.cam_target]


def cam_reshape(entry: Entry) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """Return what turns the output of Grad-CAM's layer to (N, C, H, W), or None where nothing need be done.

    Raises
    ------
    ModelError
        Where the entry asks for a way that does not exist.
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
