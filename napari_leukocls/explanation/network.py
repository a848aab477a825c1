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
    """Results of one forward and backward pass; lists have one array a layer.

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
    """A copy of a network whose layers are read for heatmaps; several threads may use it.

    Parameters
    ----------
    net : torch.nn.Module
        From (N, 3, H, W) to logits (N, K); copied.
    layers : sequence of str
        Dotted names of the layers that are read; their maps are averaged.
    reshape : callable or None
        Converts the layer's output to (N, C, h, w).
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
            Column of the class that is explained; None for the predicted class.
        method : str
            A key of `CLASSES`.

        Returns
        -------
        numpy.ndarray, (N, H, W), float32
            0 to 1.

        Raises
        ------
        ModelError
            If the layer has no height and width, or no class score depends on it.
        """
        with self._lock:
            reading = self.read(images, targets, network.CLASSES[method][1])
            if method == "scorecam":
                scores = self._channel_scores(images, reading.targets)
                coarse = [network.score_maps(maps, scores) for maps in reading.activations]
            else:
                gradients: list[Any] = [*reading.gradients] or [None] * len(reading.activations)
                pairs = zip(reading.activations, gradients, strict=True)
                coarse = [network.coarse_maps(method, maps, slopes) for maps, slopes in pairs]
        return network.full_size(coarse, (images.shape[-2], images.shape[-1]))

    def read(self, images: torch.Tensor, targets: np.ndarray | None, gradients: bool) -> Reading:
        """Run the network once.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)
        targets : numpy.ndarray, (N,), int, or None
            Column of the class that is explained; None for the predicted class.
        gradients : bool
            Whether the gradients of the class scores are computed.

        Returns
        -------
        Reading

        Raises
        ------
        ModelError
            If a layer does not run, has no height and width, or no class score depends on it.
        """
        leaves: dict[str, torch.Tensor] = {}
        hooks = [
            module.register_forward_hook(partial(self._keep, leaves, name, gradients))
            for name, module in self._read.items()
        ]
        try:
            # The first hook switches gradients on from its layer on; leaving this block switches them off again.
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
            [self._as_maps(leaf.detach()) for leaf in leaves.values()],
            [self._as_maps(slope) for slope in slopes],
            logits.detach().float().cpu().numpy(),
            chosen.cpu().numpy(),
        )

    @staticmethod
    def _keep(
        leaves: dict[str, torch.Tensor],
        name: str,
        gradients: bool,
        module: nn.Module,
        args: tuple[Any, ...],
        output: Any,
    ) -> torch.Tensor | None:
        """Keep a layer's output, and let gradients begin there; a forward hook."""
        if name in leaves:  # a layer that runs twice: the first output is used
            return None
        if not isinstance(output, torch.Tensor):
            raise ModelError(f"the layer {name} gives no single map: heatmaps cannot be drawn.")
        if output.requires_grad:
            # This layer comes after another of the layers: the graph to that one is kept.
            leaves[name] = output
            return None
        leaves[name] = output.detach().requires_grad_(gradients)
        torch.set_grad_enabled(gradients)
        # A copy, since the next layer may write into it.
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

    def _as_maps(self, output: torch.Tensor) -> np.ndarray:
        """A layer's output, or its gradient, as (N, C, h, w)."""
        maps = output
        if self._reshape is not None and output.ndim > 2:
            maps = self._reshape(output)
        if maps.ndim != 4 or maps.shape[2] * maps.shape[3] < 2:
            raise ModelError(
                f"the layer {self.layers[0]} has no height and width (an image gives {tuple(output.shape[1:])}): "
                "heatmaps need a layer that has both; name one in the model's card under gradcam."
            )
        return maps.float().cpu().numpy()

    def _channel_scores(self, images: torch.Tensor, targets: np.ndarray) -> Callable[..., np.ndarray]:
        """Class scores of an image that is multiplied by each channel's map in turn."""

        @torch.no_grad()
        def scores(i: int, maps: np.ndarray) -> np.ndarray:
            image = images[i].to(self.device)
            channels = torch.from_numpy(maps).to(self.device)[None]
            size = images.shape[-2:]
            large = nn.functional.interpolate(channels, size=size, mode="bilinear", align_corners=True)[0]
            low, high = large.amin((1, 2), keepdim=True), large.amax((1, 2), keepdim=True)
            large = (large - low) / (high - low + 1e-8)
            parts = [
                self._net(image[None] * part[:, None])[:, int(targets[i])]
                for part in torch.split(large, network.SCORE_BATCH)
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
    """Combine activations into maps.

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
        Values may be negative.
    """
    return np.asarray(_formula(method).get_cam_image(None, None, None, activations, gradients, False))


def score_maps(activations: np.ndarray, scores: Callable[[int, np.ndarray], np.ndarray]) -> np.ndarray:
    """Combine activations by the class scores of the image multiplied by each channel: ScoreCAM.

    The formula is repeated here because pytorch-grad-cam's class prints a progress bar for every cell.

    Parameters
    ----------
    activations : numpy.ndarray, (N, C, h, w)
    scores : callable
        From a cell's i and its channels (C, h, w) to class scores (C,).

    Returns
    -------
    numpy.ndarray, (N, h, w)

    References
    ----------
    Wang et al. (2020). Score-CAM: score-weighted visual explanations for convolutional neural networks. CVPR
    workshops.
    """
    weights = np.stack([softmax(scores(i, maps)) for i, maps in enumerate(activations)])
    return np.asarray((weights[:, :, None, None] * activations).sum(axis=1))


def full_size(maps: Sequence[np.ndarray], side: tuple[int, int]) -> np.ndarray:
    """Clip maps at 0, resize them to (height, width), scale them to 0..1, and average the maps of all layers.

    Parameters
    ----------
    maps : sequence of numpy.ndarray, (N, h, w)
        One array a layer.
    side : (int, int)
        Height and width.

    Returns
    -------
    numpy.ndarray, (N, height, width)
        A map without any evidence for its class is zero everywhere.
    """
    scaled = [np.maximum(scale_cam_image(np.maximum(one, 0), side[::-1]), 0) for one in maps]
    return np.asarray(scale_cam_image(np.mean(scaled, axis=0)))
