"""A network's logits on crops as they are, and how good they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.special import log_softmax
from sklearn.metrics import f1_score
from torch import nn

from napari_leukocls.training.batches import Normalisation, to_unit

if TYPE_CHECKING:
    from napari_leukocls.training.config import TrainConfig


@dataclass(frozen=True)
class Measured:
    """Figures on the validation part."""

    loss: float
    macro_f1: float
    accuracy: float

    def as_dict(self) -> dict[str, float]:
        """Return the figures as the event of an epoch has them.

        Returns
        -------
        dict of str to float
        """
        return {"val_loss": self.loss, "val_macro_f1": self.macro_f1, "val_accuracy": self.accuracy}


@torch.inference_mode()
def logits_of(
    net: nn.Module,
    pixels: np.ndarray,
    normalisation: Normalisation,
    device: torch.device,
    config: TrainConfig,
) -> np.ndarray:
    """Compute the logits of crops; the network is in evaluation mode afterwards.

    Parameters
    ----------
    net : torch.nn.Module
    pixels : numpy.ndarray, (N, S, S, 3), uint8
    normalisation : Normalisation
    device : torch.device
    config : TrainConfig

    Returns
    -------
    numpy.ndarray, (N, C)
    """
    net.eval()
    size = max(config.batch_size, 32)
    parts = [
        net(normalisation.normalise(to_unit(pixels[begin : begin + size], device))).float().cpu().numpy()
        for begin in range(0, len(pixels), size)
    ]
    return np.concatenate(parts)


def measure(logits: np.ndarray, labels: np.ndarray) -> Measured:
    """Cross-entropy, macro-F1 over the classes that occur, and accuracy.

    Parameters
    ----------
    logits : numpy.ndarray, (N, C)
    labels : numpy.ndarray, (N,), int

    Returns
    -------
    Measured
    """
    if not np.isfinite(logits).all():
        return Measured(float("inf"), 0.0, 0.0)
    guess = logits.argmax(axis=1)
    loss = -log_softmax(logits.astype(float), axis=1)[np.arange(len(labels)), labels].mean()
    there = np.unique(labels)
    macro = f1_score(labels, guess, labels=there, average="macro", zero_division=0)
    return Measured(float(loss), float(macro), float((guess == labels).mean()))
