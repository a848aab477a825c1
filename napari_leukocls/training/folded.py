"""Batch normalisations that were folded into the convolutions before them."""

from __future__ import annotations

import torch
from torch import nn


def is_folded(net: nn.Module) -> bool:
    """Whether all batch normalisations have mean 0 and variance 1: their scale went into the convolutions.

    Exporters write the variance as 1, or as 1 less the normalisation's epsilon.
    """
    norms = [
        module
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats
    ]
    means = [norm.running_mean for norm in norms if norm.running_mean is not None]
    variances = [norm.running_var for norm in norms if norm.running_var is not None]
    ones = all(bool(((v - 1).abs() <= 2e-3).all()) for v in variances)
    return bool(norms) and ones and all(not m.any() for m in means)


@torch.no_grad()
def unfold_batch_norm(net: nn.Module, images: torch.Tensor) -> None:
    """Give folded batch normalisations the statistics of real crops; what is computed stays the same.

    Weights whose normalisation was folded away (mean 0, variance 1) would start by undoing it. One pass
    measures what reaches each layer; scale and shift then make up for it.

    Parameters
    ----------
    net : torch.nn.Module
    images : torch.Tensor, (N, 3, h, w)
        As the network takes them.
    """
    seen: dict[nn.BatchNorm2d, tuple[torch.Tensor, torch.Tensor]] = {}

    def look(module: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        seen[module] = (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3)))

    hooks = [
        module.register_forward_pre_hook(look)
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    net.eval()
    net(images)
    for hook in hooks:
        hook.remove()
    for module, (mean, variance) in seen.items():
        assert module.running_mean is not None and module.running_var is not None
        old_scale = module.weight / torch.sqrt(module.running_var + module.eps)
        old_shift = module.bias - module.running_mean * old_scale
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)
        module.weight.copy_(old_scale * torch.sqrt(variance + module.eps))
        module.bias.copy_(old_shift + mean * old_scale)
