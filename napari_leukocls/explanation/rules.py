"""pytorch-grad-cam's own formulas, from activations and gradients to maps, for many cells at once.

Its classes hook a network and run one backward pass through all of it. Here they are given activations and
gradients that `napari_leukocls.explanation.network` has taken, and do the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

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
    import pytorch_grad_cam

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
    from scipy.special import softmax

    weights = np.stack([softmax(scores(place, maps)) for place, maps in enumerate(activations)])
    return (weights[:, :, None, None] * activations).sum(axis=1)


def full_size(maps: Sequence[np.ndarray], side: tuple[int, int]) -> np.ndarray:
    """Cut maps (N, h, w) off at nought, bring them to (height, width) and 0..1, and average the layers' maps.

    A map without any evidence for its class stays nought.
    """
    from pytorch_grad_cam.utils.image import scale_cam_image

    scaled = [np.maximum(scale_cam_image(np.maximum(one, 0), side[::-1]), 0) for one in maps]
    return scale_cam_image(np.mean(scaled, axis=0))
