"""A teacher: another model whose opinion of the same views is learnt from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from napari_leukocls.errors import ModelError
from napari_leukocls.training.feed import Look


class Teacher:
    """A model asked about batches that were made for another.

    Parameters
    ----------
    name : str
        A model's name or folder.
    classes : sequence of str
        The student's.
    device : torch.device

    Attributes
    ----------
    mine : list of int
        Columns of the student for the classes that both know.

    Raises
    ------
    ModelError
        Where there is no such model, or it shares fewer than two classes.
    """

    def __init__(self, name: str, classes: Sequence[str], device: torch.device) -> None:
        from napari_leukocls.classification.card import read_card
        from napari_leukocls.classification.checkpoint import build_network, read_weights
        from napari_leukocls.resources import find_model

        folder = find_model(name).path
        self.card = read_card(folder)
        shared = [name for name in classes if name in self.card.classes]
        if len(shared) < 2:
            raise ModelError(
                f"the teacher {name} knows {len(shared)} of the classes: choose another, or none."
            )
        self.mine = [list(classes).index(name) for name in shared]
        self._theirs = [self.card.classes.index(name) for name in shared]
        tensors, self.digest = read_weights(folder)
        net: nn.Module = build_network(self.card, tensors, folder)
        self._net = net.to(device).requires_grad_(False).eval()
        self._look = Look(self.card.mean, self.card.std)

    @torch.no_grad()
    def opinion(self, images: torch.Tensor, look: Look) -> torch.Tensor:
        """Logits (B, K) of the shared classes for images (B, 3, S, S) that were normalised by `look`."""
        mean, std = (torch.tensor(v, device=images.device).view(1, 3, 1, 1) for v in (look.mean, look.std))
        plain = images * std + mean
        size = self.card.input_size
        if plain.shape[-2:] != size:
            plain = functional.interpolate(plain, size, mode="bilinear", antialias=True, align_corners=False)
        return self._net(self._look.normalise(plain)).float()[:, self._theirs]
