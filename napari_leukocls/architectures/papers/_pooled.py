"""timm backbones with a head of their own: hidden layers, or squeeze and excitation on the last map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn

from napari_leukocls.architectures.base import HeadedNet, SizeGuard


class HiddenHeadNet(HeadedNet):
    """A timm backbone, hidden layers, and the last layer, with dropout before each of them.

    Parameters
    ----------
    guard : SizeGuard
    num_classes : int
    backbone : str
        A timm name.
    hidden : sequence of int
        Widths of the hidden layers.
    dropout : float
    """

    def __init__(
        self, guard: SizeGuard, num_classes: int, backbone: str, hidden: Sequence[int], dropout: float
    ) -> None:
        body: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
        widths = [body.num_features, *hidden]
        super().__init__(guard, widths[-1], num_classes, dropout)
        self.backbone = body
        layers: list[nn.Module] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Dropout(dropout), nn.Linear(before, after), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the last map (N, C, h, w)."""
        self.guard.check(images)
        return self.backbone.forward_features(images)

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the last hidden layer's output (N, D)."""
        return self.hidden(self.backbone.forward_head(maps, pre_logits=True))


class SqueezeExcite(nn.Module):
    """Weighs the channels of a map by what they hold on average.

    References
    ----------
    Hu, Shen, Sun: Squeeze-and-Excitation Networks. CVPR 2018.
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // reduction)
        self.excite = nn.Linear(width // reduction, width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the weighed map (N, C, H, W)."""
        gate = self.excite(self.squeeze(maps.mean((2, 3))).relu()).sigmoid()
        return maps * gate[:, :, None, None]


class SqueezeExciteNet(HeadedNet):
    """A timm backbone with squeeze and excitation on its last map, pooled."""

    def __init__(
        self, guard: SizeGuard, num_classes: int, backbone: str, reduction: int, dropout: float
    ) -> None:
        body: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
        super().__init__(guard, body.num_features, num_classes, dropout)
        self.backbone = body
        self.attention = SqueezeExcite(body.num_features, reduction)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the weighed last map (N, C, h, w)."""
        self.guard.check(images)
        return self.attention(self.backbone.forward_features(images))
