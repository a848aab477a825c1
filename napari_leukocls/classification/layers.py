"""Statistics of a network's earlier layers: what they hold of a crop's stain, sharpness and grain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from napari_leukocls.errors import ModelError


class LayerStatistics:
    """Mean and spread of each channel of some layers, noted whenever the network runs.

    Threads may run the network at the same time: each takes its own.

    Parameters
    ----------
    net : torch.nn.Module
    names : sequence of str
        Dotted names of layers whose output is a map.
    field : str
        Of the card, where the names are.
    spread : bool
        Whether the standard deviations are noted beside the means.

    Raises
    ------
    ModelError
        If the network has no layer of that name.
    """

    def __init__(self, net: nn.Module, names: Sequence[str], field: str, spread: bool = True) -> None:
        self._names = tuple(names)
        self._spread = spread
        self._noted = threading.local()
        for name in self._names:
            try:
                layer = net.get_submodule(name)
            except AttributeError as error:
                raise ModelError(
                    f"the network has no layer {name}, which its card names at {field}."
                ) from error
            layer.register_forward_hook(self._note(name))

    def _note(self, name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def hook(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            parts = [output.mean((2, 3)), *([output.std((2, 3))] if self._spread else [])]
            self._noted.__dict__[name] = torch.cat(parts, dim=1)

        return hook

    def take(self) -> torch.Tensor:
        """Return the statistics of the images that this thread ran last.

        Returns
        -------
        torch.Tensor, (N, E)
            Layer by layer: the means of its channels, then their standard deviations if these are noted.
        """
        return torch.cat([self._noted.__dict__.pop(name).float() for name in self._names], dim=1)
