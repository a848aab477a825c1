"""Activations and gradients, and the CAM formulas."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pytorch_grad_cam
import torch
from pytorch_grad_cam.utils.image import scale_cam_image
from scipy.special import softmax
from torch import nn

from napari_leukocls.errors import ModelError
from napari_leukocls.explanation import network

Reshape = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Reading:
    """What one pass gave; lists have one array a layer.

    Attributes
    ----------
    activations : list of numpy.ndarray, (N, C, h, w)
    gradients : list of numpy.ndarray, (N, C, h, w)
        Empty where none were asked for.
    logits : numpy.ndarray, (N, K)
    targets : numpy.ndarray, (N,)
    """

    activations: list[np.ndarray]
    gradients: list[np.ndarray]
    logits: np.ndarray
    targets: np.ndarray


class CamNetwork:
    """Reads layers of a copy of a network; safe to call from several threads.

    Parameters
    ----------
    net : torch.nn.Module
        From (N, 3, H, W) to logits (N, K); copied.
    layers : sequence of str
        Dotted names of the layers that are read; their maps are averaged.
    reshape : callable or None
        Turns the layer's output to (N, C, h, w).
    device : str
    """

    def __init__(
        self,
        net: nn.Module,
        layers: Sequence[str],
        reshape: Reshape | None = None,
        device: str = "cpu",
    ) -> None:
        self._net = copy.deepcopy(net).eval().requires_grad_(False).to(device)
        self._read = {name: self._net.get_submodule(name) for name in layers}
        self._reshape = reshape
        self._lock = threading.Lock()
        self.layers = tuple(layers)
        self.device = device

    def maps(self, images: torch.Tensor, targets: np.ndarray | None, method: str) -> np.ndarray:
        """Heatmaps of images.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)
        targets : numpy.ndarray, (N,), int, or None
            Place of the class that each is asked about; None takes the best one.
        method : str
            One of `rules.CLASSES`.

        Returns
        -------
        numpy.ndarray, (N, H, W), float32
            0 to 1.

        Raises
        ------
        ModelError
            Where the layer has no places, or leads to no class score.
        """
        with self._lock:
            reading = self.read(images, targets, network.CLASSES[method][1])
            if method == "scorecam":
                seen = self._seen_through(images, reading.targets)
                coarse = [network.score_maps(maps, seen) for maps in reading.activations]
            else:
                gradients: list[Any] = [*reading.gradients] or [None] * len(reading.activations)
                pairs = zip(reading.activations, gradients, strict=True)
                coarse = [network.coarse_maps(method, maps, slopes) for maps, slopes in pairs]
        return network.full_size(coarse, (images.shape[-2], images.shape[-1]))

    def read(self, images: torch.Tensor, targets: np.ndarray | None, gradients: bool) -> Reading:
        """Run the network once; see `maps`."""
        leaves: dict[str, torch.Tensor] = {}
        hooks = [
            module.register_forward_hook(partial(self._keep, leaves, name, gradients))
            for name, module in self._read.items()
        ]
        try:
            # The first hook lets gradients begin at its layer; leaving this block puts the mode back.
            with torch.no_grad():
                logits = self._net(images.to(self.device))
                chosen = logits.argmax(1) if targets is None else torch.as_tensor(targets, device=self.device)
                slopes = self._slopes(logits, chosen, list(leaves.values())) if gradients else []
        finally:
            for hook in hooks:
                hook.remove()
        missing = [name for name in self.layers if name not in leaves]
        if missing:
            raise ModelError(f"the layer {missing[0]} does not run: heatmaps cannot be drawn.")
        return Reading(
            [self._placed(leaf.detach()) for leaf in leaves.values()],
            [self._placed(slope) for slope in slopes],
            logits.detach().float().cpu().numpy(),
            chosen.cpu().numpy(),
        )

    @staticmethod
    def _keep(
        leaves: dict[str, torch.Tensor],
        name: str,
        gradients: bool,
        module: nn.Module,
        args: tuple,
        output: Any,
    ) -> torch.Tensor | None:
        """Keep a layer's output, and let gradients begin there; a forward hook."""
        if name in leaves:  # a layer that runs again: its first output counts
            return None
        if not isinstance(output, torch.Tensor):
            raise ModelError(f"the layer {name} gives no single map: heatmaps cannot be drawn.")
        if output.requires_grad:
            # Behind another of the layers: the way to that one stays.
            leaves[name] = output
            return None
        leaves[name] = output.detach().requires_grad_(gradients)
        torch.set_grad_enabled(gradients)
        # A copy, since what follows may write into it.
        return leaves[name].clone()

    def _slopes(
        self, logits: torch.Tensor, chosen: torch.Tensor, leaves: list[torch.Tensor]
    ) -> list[torch.Tensor]:
        if not leaves:
            return []
        if not logits.requires_grad:
            raise ModelError(
                f"the class scores cannot be differentiated by the layer {self.layers[0]}: choose eigencam."
            )
        score = logits.gather(1, chosen.long()[:, None]).sum()
        return list(torch.autograd.grad(score, leaves))

    def _placed(self, output: torch.Tensor) -> np.ndarray:
        """A layer's output, or its gradient, as (N, C, h, w)."""
        maps = output
        if self._reshape is not None and output.ndim > 2:
            maps = self._reshape(output)
        if maps.ndim != 4 or maps.shape[2] * maps.shape[3] < 2:
            raise ModelError(
                f"the layer {self.layers[0]} has no places (an image gives {tuple(output.shape[1:])}): "
                "heatmaps need one with height and width; name it in the model's card under gradcam."
            )
        return maps.float().cpu().numpy()

    def _seen_through(self, images: torch.Tensor, targets: np.ndarray) -> Callable[..., np.ndarray]:
        """Class scores of an image that is shown through each channel's map in turn."""

        @torch.no_grad()
        def scores(place: int, maps: np.ndarray) -> np.ndarray:
            image = images[place].to(self.device)
            channels = torch.from_numpy(maps).to(self.device)[None]
            size = images.shape[-2:]
            large = nn.functional.interpolate(channels, size=size, mode="bilinear", align_corners=True)[0]
            low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
            large = (large - low) / (high - low + 1e-8)
            parts = [
                self._net(image[None] * part[:, None])[:, int(targets[place])]
                for part in large.split(network.SCORE_BATCH)
            ]
            return torch.cat(parts).float().cpu().numpy()

        return scores


#: Methods by their name here: pytorch-grad-cam's class, and whether it needs gradients.
CLASSES = {
    "gradcam": ("GradCAM", True),
    "gradcam++": ("GradCAMPlusPlus", True),
    "layercam": ("LayerCAM", True),
    "hirescam": ("HiResCAM", True),
    "eigencam": ("EigenCAM", False),
    "scorecam": ("ScoreCAM", False),
}
#: Channels that ScoreCAM shows to the network at a time.
SCORE_BATCH = 32


@lru_cache(maxsize=len(CLASSES))
def _formula(method: str) -> Any:
    """An instance of pytorch-grad-cam's class that is bound to no network."""
    base = getattr(pytorch_grad_cam, CLASSES[method][0])
    # The base class hooks a network when it is made, and lets go of it when it is dropped.
    unbound = type(base.__name__, (base,), {"__init__": lambda self: None, "__del__": lambda self: None})
    return unbound()


def coarse_maps(method: str, activations: np.ndarray, gradients: np.ndarray | None) -> np.ndarray:
    """Weigh activations to maps.

    Parameters
    ----------
    method : str
        One of `CLASSES`, save ``scorecam``.
    activations : numpy.ndarray, (N, C, h, w)
    gradients : numpy.ndarray, (N, C, h, w), or None
        Of each cell's class score; None for a method that takes none.

    Returns
    -------
    numpy.ndarray, (N, h, w)
        May have negative values.
    """
    return _formula(method).get_cam_image(None, None, None, activations, gradients, False)


def score_maps(activations: np.ndarray, scores: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Weigh activations by what the network still sees through each channel: ScoreCAM.

    pytorch-grad-cam's class prints a bar for every cell, so that its formula is repeated here.

    Parameters
    ----------
    activations : numpy.ndarray, (N, C, h, w)
    scores : callable
        From a cell's place and its channels (C, h, w) to class scores (C,).

    Returns
    -------
    numpy.ndarray, (N, h, w)

    References
    ----------
    Wang et al.: Score-CAM. CVPR workshops 2020.
    """
    weights = np.stack([softmax(scores(place, maps)) for place, maps in enumerate(activations)])
    return (weights[:, :, None, None] * activations).sum(axis=1)


def full_size(maps: Sequence[np.ndarray], side: tuple[int, int]) -> np.ndarray:
    """Cut maps (N, h, w) off at nought, bring them to (height, width) and 0..1, and average the layers' maps.

    A map without any evidence for its class stays nought.
    """
    scaled = [np.maximum(scale_cam_image(np.maximum(one, 0), side[::-1]), 0) for one in maps]
    return scale_cam_image(np.mean(scaled, axis=0))
