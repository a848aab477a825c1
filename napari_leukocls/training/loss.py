"""Losses on class probabilities, so that smoothing, mixing and a teacher's opinion need no loss of their own.

References
----------
.. [1] Lin, T.-Y. et al. (2017). Focal loss for dense object detection. ICCV.
.. [2] Cui, Y. et al. (2019). Class-balanced loss based on effective number of samples. CVPR.
.. [3] Hinton, G. et al. (2015). Distilling the knowledge in a neural network. arXiv:1503.02531.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig

#: Of the effective number of crops: beyond some thousand, more of the same add little.
_BETA = 0.999


def class_weights(counts: np.ndarray, how: str) -> np.ndarray:
    """Weights of the classes in the loss, with mean 1 over the crops.

    Parameters
    ----------
    counts : numpy.ndarray, (C,)
        Crops of each class; a class without any gets weight 1.
    how : {"none", "balanced", "sqrt", "effective"}

    Returns
    -------
    numpy.ndarray, (C,)
    """
    there = counts > 0
    weights = np.ones(len(counts))
    if how == "balanced":
        weights[there] = 1 / counts[there]
    elif how == "sqrt":
        weights[there] = 1 / np.sqrt(counts[there])
    elif how == "effective":
        weights[there] = (1 - _BETA) / (1 - _BETA ** counts[there])
    if there.any():
        weights[there] *= counts.sum() / (weights * counts).sum()
        weights[~there] = 1.0
    return weights


def targets_of(classes: torch.Tensor, n_classes: int, smoothing: float) -> torch.Tensor:
    """Return the smoothed target probabilities of classes.

    Parameters
    ----------
    classes : torch.Tensor, (B,), int
    n_classes : int
    smoothing : float

    Returns
    -------
    torch.Tensor, (B, C)
    """
    hot = functional.one_hot(classes, n_classes).float()
    return hot * (1 - smoothing) + smoothing / n_classes


def loss_of(
    logits: torch.Tensor, targets: torch.Tensor, config: TrainConfig, weights: torch.Tensor | None
) -> torch.Tensor:
    """Cross-entropy or focal loss, averaged over the batch.

    Parameters
    ----------
    logits : torch.Tensor, (B, C)
    targets : torch.Tensor, (B, C)
        Probabilities.
    config : TrainConfig
    weights : torch.Tensor, (C,), optional

    Returns
    -------
    torch.Tensor, ()
    """
    logs = functional.log_softmax(logits.float(), dim=1)
    pull = targets if weights is None else targets * weights
    if config.loss == "focal":
        pull = pull * (1 - logs.exp()) ** config.focal_gamma
    return -(pull * logs).sum(1).mean()


def distillation(
    logits: torch.Tensor, opinion: torch.Tensor, mine: list[int], temperature: float
) -> torch.Tensor:
    """Distance from a teacher's opinion, over the classes that both know.

    Parameters
    ----------
    logits : torch.Tensor, (B, C)
    opinion : torch.Tensor, (B, K)
        The teacher's logits of the shared classes.
    mine : list of int, length K
        Columns of `logits` for those.
    temperature : float

    Returns
    -------
    torch.Tensor, ()
    """
    ours = functional.log_softmax(logits.float()[:, mine] / temperature, dim=1)
    theirs = functional.log_softmax(opinion.float() / temperature, dim=1)
    return functional.kl_div(ours, theirs, log_target=True, reduction="batchmean") * temperature**2
