"""timm backbones with another head: hidden layers, or squeeze and excitation on the last map."""

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
        """Compute the backbone's last map.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, C, h, w)

        Raises
        ------
        ModelError
            If the images have another size than the network takes.
        """
        self.guard.check(images)
        result: torch.Tensor = self.backbone.forward_features(images)
        return result

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        """Pool maps and apply the hidden layers.

        Parameters
        ----------
        maps : torch.Tensor, (N, C, h, w)

        Returns
        -------
        torch.Tensor, (N, D)
            Inputs of the last layer.
        """
        result: torch.Tensor = self.hidden(self.backbone.forward_head(maps, pre_logits=True))
        return result


class SqueezeExcite(nn.Module):
    """Weights the channels of a map by their means over the image.

    Parameters
    ----------
    width : int
        Channels.
    reduction : int
        The hidden layer has `width` / `reduction` channels.

    References
    ----------
    Hu, Shen, Sun (2018). Squeeze-and-excitation networks. CVPR.
    """

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // reduction)
        self.excite = nn.Linear(width // reduction, width)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Weight the channels of maps.

        Parameters
        ----------
        maps : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, C, H, W)
        """
        gate = self.excite(self.squeeze(maps.mean((2, 3))).relu()).sigmoid()
        result: torch.Tensor = maps * gate[:, :, None, None]
        return result


class SqueezeExciteNet(HeadedNet):
    """A timm backbone with squeeze and excitation on its last map, which is then pooled.

    With a reduction of 0 there is no squeeze and excitation.

    Parameters
    ----------
    guard : SizeGuard
    num_classes : int
    backbone : str
        A timm name.
    reduction : int
        Of `SqueezeExcite`.
    dropout : float
        Before the last layer.
    """

    def __init__(
        self, guard: SizeGuard, num_classes: int, backbone: str, reduction: int, dropout: float
    ) -> None:
        body: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
        super().__init__(guard, body.num_features, num_classes, dropout)
        self.backbone = body
        self.attention = SqueezeExcite(body.num_features, reduction) if reduction else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the backbone's last map with weighted channels.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, C, h, w)

        Raises
        ------
        ModelError
            If the images have another size than the network takes.
        """
        self.guard.check(images)
        result: torch.Tensor = self.attention(self.backbone.forward_features(images))
        return result
