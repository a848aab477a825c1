"""The compact network: cellpose's flows, cell probability, and a class map, from 1.9 M parameters.

A residual U-Net with a stride-2 stem and a 2x pixel-shuffle output, so that nothing but the stem and
the head ever works at full resolution. It returns what cellpose's ``run_net`` expects of a network,
``(y, style)``, with the class map in further channels: 0 y-flow, 1 x-flow, 2 cell probability (logit),
3-6 logits of background, red cell, leukocyte and platelet.
"""

from __future__ import annotations

import torch
from torch import nn

#: Red cells have this diameter (pixels) in the images that the network sees.
NETWORK_DIAMETER_PX = 30.0
#: Flow (2), cell probability (1), class map (4).
N_OUTPUTS = 7
#: Tile side in pixels, as cellpose's own networks have it.
TILE = 256
WIDTHS = (48, 80, 112, 136)

STYLE_LENGTH = 256


def _conv_bn(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(n_out)
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.first = _conv_bn(n_in, n_out)
        self.second = _conv_bn(n_out, n_out)
        self.shortcut = nn.Identity() if n_in == n_out else _conv_bn(n_in, n_out, kernel=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Parameters
        ----------
        x : torch.Tensor, (B, n_in, h, w)

        Returns
        -------
        torch.Tensor, (B, n_out, h, w)
        """
        y = self.second(torch.relu_(self.first(x)))
        return torch.relu_(y + self.shortcut(x))


class CompactNet(nn.Module):
    """The embedded segmenter's network.

    Input is (B, 3, H, W) float with H and W divisible by 16: how far each pixel is from the glass, per
    channel (0 is empty glass, about 1 the darkest stain), red cells about 30 px across. Output is
    ``(y, style)`` with y (B, 7, H, W) as the module's docstring says, and a style of zeros.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__()
        self.stem = _conv_bn(3, widths[0], kernel=5, stride=2)
        self.encoder = nn.ModuleList()
        n_in = widths[0]
        for width in widths:
            self.encoder.append(nn.Sequential(ResidualBlock(n_in, width), ResidualBlock(width, width)))
            n_in = width
        self.lateral = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True):
            self.lateral.append(_conv_bn(deep, shallow, kernel=1))
            self.decoder.append(ResidualBlock(shallow, shallow))
        self.head = nn.Conv2d(widths[0], 4 * N_OUTPUTS, 1)
        self.shuffle = nn.PixelShuffle(2)
        self.widths = tuple(widths)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.head.weight.dtype

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute flows, cell probability and class map, and a style.

        Parameters
        ----------
        x : torch.Tensor, (B, 3, H, W)

        Returns
        -------
        output : torch.Tensor, (B, 7, H, W)
        style : torch.Tensor
        """
        y = torch.relu_(self.stem(x))
        skips = []
        for level, block in enumerate(self.encoder):
            if level:
                y = nn.functional.max_pool2d(y, 2)
            y = block(y)
            skips.append(y)
        y = skips.pop()
        for lateral, block in zip(self.lateral, self.decoder, strict=True):
            y = nn.functional.interpolate(lateral(y), scale_factor=2, mode="nearest")
            y = block(y + skips.pop())
        y = self.shuffle(self.head(y))
        return y, torch.zeros((x.shape[0], STYLE_LENGTH), device=y.device, dtype=y.dtype)


def fold_batch_norm(net: CompactNet) -> CompactNet:
    """Fold every batch normalisation into the convolution before it; for inference only.

    Parameters
    ----------
    net : CompactNet
        It is changed in place.

    Returns
    -------
    CompactNet
        The same network.
    """
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) == 2 and isinstance(module[1], nn.BatchNorm2d):
            conv, norm = module
            assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
            module[0], module[1] = nn.utils.fuse_conv_bn_eval(conv.eval(), norm.eval()), nn.Identity()
    return net.eval()
