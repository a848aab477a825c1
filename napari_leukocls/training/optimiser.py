"""Optimiser, learning rate, what is frozen, and the moving average of the weights."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from napari_leukocls.architectures.entry import Entry
from napari_leukocls.architectures.introspection import frozen_parameters, unfreezing_stages

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig


def make_optimiser(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make AdamW or SGD for all parameters; vectors (biases, normalisations) do not decay unless `decay_all`.

    Parameters
    ----------
    net : torch.nn.Module
    config : TrainConfig

    Returns
    -------
    torch.optim.Optimizer
    """
    matrices = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": config.weight_decay if config.decay_all else 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if config.optimiser == "sgd":
        nesterov = config.momentum > 0
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, lr=config.lr)


def make_schedule(
    optimiser: torch.optim.Optimizer, config: TrainConfig, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """Make the learning rate over all steps of a training.

    Parameters
    ----------
    optimiser : torch.optim.Optimizer
    config : TrainConfig
    steps_per_epoch : int

    Returns
    -------
    torch.optim.lr_scheduler.LRScheduler
    """
    total = max(2, config.epochs * steps_per_epoch)
    if config.schedule == "onecycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimiser, config.lr, total_steps=total)
    warm = round(config.warmup_epochs * steps_per_epoch)
    rule = partial(_share_of_rate, total=total, warm=warm, cosine=config.schedule == "cosine")
    return torch.optim.lr_scheduler.LambdaLR(optimiser, rule)


def _share_of_rate(step: int, total: int, warm: int, cosine: bool) -> float:
    if step < warm:
        return (step + 1) / (warm + 1)
    if not cosine:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, total - warm))))


def set_trainable(net: nn.Module, entry: Entry, config: TrainConfig, epoch: int) -> int:
    """Freeze and unfreeze stages for an epoch.

    Parameters
    ----------
    net : torch.nn.Module
    entry : Entry
    config : TrainConfig
    epoch : int
        From 0.

    Returns
    -------
    int
        Stages, from the head on, that are trained.
    """
    stages = unfreezing_stages(entry, net)
    if config.freeze == "none":
        count = len(stages)
    elif config.freeze == "head":
        count = 1
    else:
        if config.keep_frozen is None:
            never = set(frozen_parameters(entry, net))
            stages = [kept for stage in stages if (kept := [name for name in stage if name not in never])]
        most = max(1, len(stages) - (config.keep_frozen or 0))
        count = min(most, 1 + epoch // config.unfreeze_every)
    trained = {name for stage in stages[:count] for name in stage}
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in trained)
    return count


def set_modes(net: nn.Module) -> None:
    """Set the training mode; frozen normalisations keep their statistics.

    Parameters
    ----------
    net : torch.nn.Module
    """
    net.train()
    for module in net.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and own:
            module.train(any(parameter.requires_grad for parameter in own))


def make_average(net: nn.Module, decay: float) -> AveragedModel:
    """Make the moving average of all weights and statistics; it follows closely at first.

    Parameters
    ----------
    net : torch.nn.Module
    decay : float

    Returns
    -------
    AveragedModel
    """

    def follow(means: Any, values: Any, count: Any) -> None:
        # A short training would otherwise end with an average that is mostly its start.
        now = min(decay, (1 + float(count)) / (10 + float(count)))
        if means[0].is_floating_point():
            torch._foreach_lerp_(means, values, 1 - now)
        else:
            torch._foreach_copy_(means, values)

    return AveragedModel(net, multi_avg_fn=follow, use_buffers=True)
