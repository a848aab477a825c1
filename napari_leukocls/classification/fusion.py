"""Batch normalisation folded, activations fused, and undone again."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn

log = logging.getLogger(__name__)

#: Activations that oneDNN computes with the convolution before them: its name for each, and its numbers.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
#: Largest difference of logits, of one plus their size, at which a fused network is taken for the same.
_TOLERANCE = 1e-4


@torch.no_grad()
def fold_batch_norm(net: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy whose batch normalisations are folded into the convolutions that feed them.

    `example` is run through the network once to find which convolution feeds which normalisation. So this works for
    any network whose normalisations follow convolutions; other normalisations are left as they are.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode.
    example : torch.Tensor, (1, 3, h, w)

    Returns
    -------
    torch.nn.Module
    """
    net = copy.deepcopy(net).eval()
    names = {module: name for name, module in net.named_modules()}
    made_by: dict[int, nn.Conv2d] = {}
    kept: list[torch.Tensor] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []
    hooks = []

    def after_conv(module: nn.Conv2d, args: tuple[Any, ...], output: torch.Tensor) -> None:
        made_by[id(output)] = module
        kept.append(output)  # held, so that no later tensor gets the same id

    def before_norm(module: nn.BatchNorm2d, args: tuple[Any, ...]) -> None:
        if id(args[0]) in made_by:
            pairs.append((made_by[id(args[0])], module))

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_conv))
        elif isinstance(module, nn.BatchNorm2d):
            hooks.append(module.register_forward_pre_hook(before_norm))
    net(example)
    for hook in hooks:
        hook.remove()
    for conv, norm in pairs:
        fused = nn.utils.fuse_conv_bn_eval(conv, norm)
        _replace(net, names[conv], fused)
        # timm's normalisations carry the activation that follows them.
        rest = [
            part for part in (getattr(norm, "drop", None), getattr(norm, "act", None)) if part is not None
        ]
        _replace(net, names[norm], nn.Sequential(*rest) if rest else nn.Identity())
    return net


class FusedConv(nn.Module):
    """A convolution and the activation after it in one pass of oneDNN, for inference on the processor.

    With a single thread and few images, torch's own 1 x 1 convolutions take half as long again.

    Parameters
    ----------
    conv : torch.nn.Conv2d
        Without padding of its own kind (``Conv2dSame``): see `fuse_for_processor`.
    activation : torch.nn.Module, optional
        One of those that oneDNN knows.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.geometry = (list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups)
        self.after = ("none", []) if activation is None else _ACTIVATIONS[type(activation)]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the convolution and the activation.

        Parameters
        ----------
        images : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, D, h, w)
        """
        tensor: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            images, self.weight, self.bias, *self.geometry, *self.after, ""
        )
        return tensor


@torch.no_grad()
def fuse_for_processor(net: nn.Module, example: torch.Tensor) -> nn.Module:
    """Fuse activations into the convolutions before them.

    If this build of torch cannot do so, or the result computes something else, the network is returned as it is.

    Parameters
    ----------
    net : torch.nn.Module
        In evaluation mode, on the CPU.
    example : torch.Tensor, (1, 3, h, w)
        Only its size is used.

    Returns
    -------
    torch.nn.Module
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return net
    shown = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fused = copy.deepcopy(net)
    names = {module: name for name, module in fused.named_modules()}
    try:
        for conv, activation in _followed(fused, shown).items():
            if activation is not None:
                _replace(fused, names[activation], nn.Identity())
            _replace(fused, names[conv], FusedConv(conv, activation))
        expected, got = net(shown), fused(shown)
    except RuntimeError as error:
        log.info("activations are not fused: %s", error)
        return net
    same = (expected - got).abs().max() <= _TOLERANCE * (1 + expected.abs().max())
    return fused if same else net


def _followed(net: nn.Module, example: torch.Tensor) -> dict[nn.Conv2d, nn.Module | None]:
    """Plain convolutions, each with the activation that takes its output, where there is one; seen by running."""
    made_by: dict[tuple[int, int], nn.Conv2d] = {}
    kept: list[torch.Tensor] = []
    found: dict[nn.Conv2d, nn.Module | None] = {}

    def state(tensor: torch.Tensor) -> tuple[int, int]:
        # What is added to it in place, as residual blocks do, makes another of it.
        return id(tensor), tensor._version

    def after_conv(module: nn.Conv2d, args: tuple[Any, ...], output: torch.Tensor) -> None:
        found[module] = None
        made_by[state(output)] = module
        kept.append(output)  # held, so that no later tensor gets the same id

    def before_activation(module: nn.Module, args: tuple[Any, ...]) -> None:
        if state(args[0]) in made_by:
            found[made_by.pop(state(args[0]))] = module

    hooks = [
        module.register_forward_hook(after_conv)
        for module in net.modules()
        if type(module) is nn.Conv2d
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ]
    hooks += [
        module.register_forward_pre_hook(before_activation)
        for module in net.modules()
        if type(module) in _ACTIVATIONS
    ]
    net(example)
    for hook in hooks:
        hook.remove()
    return found


def _replace(root: nn.Module, name: str, new: nn.Module) -> None:
    parent_name, _, leaf = name.rpartition(".")
    setattr(root.get_submodule(parent_name), leaf, new)


def is_folded(net: nn.Module) -> bool:
    """Tell whether all batch normalisations have mean 0 and variance 1: their scale is in the convolutions.

    Exporters write the variance as 1, or as 1 less the normalisation's epsilon.

    Parameters
    ----------
    net : torch.nn.Module

    Returns
    -------
    bool
        False if there is no batch normalisation.
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

    A training of weights whose normalisation was folded (mean 0, variance 1) would begin by undoing that. One pass
    measures what reaches each layer; scale and shift are then changed so that the output stays the same.

    Parameters
    ----------
    net : torch.nn.Module
    images : torch.Tensor, (N, 3, h, w)
        As the network takes them.
    """
    statistics: dict[nn.BatchNorm2d, tuple[torch.Tensor, torch.Tensor]] = {}

    def measure(module: nn.BatchNorm2d, inputs: tuple[torch.Tensor, ...]) -> None:
        statistics[module] = (inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3)))

    hooks = [
        module.register_forward_pre_hook(measure)
        for module in net.modules()
        if isinstance(module, nn.BatchNorm2d)
    ]
    net.eval()
    net(images)
    for hook in hooks:
        hook.remove()
    for module, (mean, variance) in statistics.items():
        assert module.running_mean is not None and module.running_var is not None
        old_scale = module.weight / torch.sqrt(module.running_var + module.eps)
        old_shift = module.bias - module.running_mean * old_scale
        module.running_mean.copy_(mean)
        module.running_var.copy_(variance)
        module.weight.copy_(old_scale * torch.sqrt(variance + module.eps))
        module.bias.copy_(old_shift + mean * old_scale)
