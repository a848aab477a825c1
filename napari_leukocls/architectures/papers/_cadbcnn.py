"""The network of CADB-CNN: two ResNets whose last maps attend to each other."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import nn

from napari_leukocls.architectures.base import Attention, HeadedNet, SizeGuard, to_tokens


class DualBranchNet(HeadedNet):
    """ResNet-18 and ResNet-34 on the same image; their last maps are concatenated.

    Parameters
    ----------
    guard : SizeGuard
    num_classes : int
    dropout : float
    cross_attention : bool
        Whether each branch's tokens attend to the other's before they are concatenated.
    heads : int
        Attention heads.
    """

    def __init__(
        self, guard: SizeGuard, num_classes: int, dropout: float, cross_attention: bool, heads: int
    ) -> None:
        small: Any = timm.create_model("resnet18", pretrained=False, num_classes=0)
        large: Any = timm.create_model("resnet34", pretrained=False, num_classes=0)
        width = small.num_features
        super().__init__(guard, width + large.num_features, num_classes, dropout)
        self.resnet18 = small
        self.resnet34 = large
        self.cross_attention = cross_attention
        if cross_attention:
            self.small_asks = Attention(width, heads, width // heads)
            self.large_asks = Attention(width, heads, width // heads)
            self.small_norm = nn.LayerNorm(width, eps=1e-6)
            self.large_norm = nn.LayerNorm(width, eps=1e-6)
        self.last_map = nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute both branches' last maps and concatenate their channels.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, 512 + 512, h, w)

        Raises
        ------
        ModelError
            If the images have another size than the network takes.
        """
        self.guard.check(images)
        small, large = self.resnet18.forward_features(images), self.resnet34.forward_features(images)
        if not self.cross_attention:
            joined: torch.Tensor = self.last_map(torch.cat((small, large), 1))
            return joined
        size = small.shape[-2:]
        small, large = to_tokens(small), to_tokens(large)
        both = (
            self.small_norm(small + self.small_asks(small, large)),
            self.large_norm(large + self.large_asks(large, small)),
        )
        tokens = torch.cat(both, 2).transpose(1, 2)
        attended: torch.Tensor = self.last_map(torch.unflatten(tokens, 2, size))
        return attended
