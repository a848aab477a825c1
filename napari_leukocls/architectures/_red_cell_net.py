"""The network of `red_cell_net`: four stages of plain 3 x 3 convolutions, which a processor computes fastest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from napari_leukocls.architectures.base import HeadedNet, SizeGuard

#: Channels of the stages.
WIDTHS = (20, 40, 80, 128)


class RedCellNet(HeadedNet):
    """A small convolutional network without skips but one a stage.

    Parameters
    ----------
    guard : SizeGuard
    num_classes : int
    widths : sequence of int
        Channels of the four stages; each halves the side.
    drop_rate : float
    """

    def __init__(
        self, guard: SizeGuard, num_classes: int, widths: Sequence[int] = WIDTHS, drop_rate: float = 0.0
    ) -> None:
        super().__init__(guard, widths[-1], num_classes, drop_rate)
        self.stages = nn.Sequential()
        channels = 3
        for index, width in enumerate(widths):
            self.stages.append(Stage(channels, width, first=index == 0))
            channels = width

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last maps.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, C, h, w)
        """
        self.guard.check(images)
        maps: torch.Tensor = self.stages(images)
        return maps


class Stage(nn.Module):
    """Half the side; then a convolution, and from the second stage on another one beside a skip.

    Parameters
    ----------
    channels, width : int
        In and out.
    first : bool
        The first stage halves the side with its convolution, and has no other.
    """

    def __init__(self, channels: int, width: int, first: bool) -> None:
        super().__init__()
        self.shrink = nn.Identity() if first else nn.MaxPool2d(2)
        self.conv1 = nn.Conv2d(channels, width, 3, 2 if first else 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Identity() if first else nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.Identity() if first else nn.BatchNorm2d(width)
        self.act = nn.ReLU(inplace=True)
        self.first = first

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the maps of the stage.

        Parameters
        ----------
        images : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, width, H / 2, W / 2)
        """
        maps: torch.Tensor = self.act(self.bn1(self.conv1(self.shrink(images))))
        if not self.first:
            maps = self.act(maps + self.bn2(self.conv2(maps)))
        return maps
