"""The network of cellpose 1 to 3 (`cyto`), which cellpose 4 no longer has: for its speed and memory alone.

A residual U-Net with a style vector, after Stringer, Wang, Michaelos and Pachitariu, Nature Methods 2021: four levels
of 32 to 256 channels, two input channels, three outputs (two flows and the cell probability). The published weights are
not part of this project: the weights here are random, which changes neither speed nor memory.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

#: Input channels, then those of each level.
WIDTHS = (2, 32, 64, 128, 256)
#: Cells have this diameter in the images that it sees, pixels, and images are cut into tiles of this side.
DIAMETER_PX, TILE = 30, 224


def _conv(n_in: int, n_out: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.ReLU(), nn.Conv2d(n_in, n_out, kernel, padding=kernel // 2))


def _shortcut(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(n_in), nn.Conv2d(n_in, n_out, 1))


class _Down(nn.Module):
    """Two pairs of convolutions, each around a shortcut."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_conv(n_in, n_out), *(_conv(n_out, n_out) for _ in range(3))])
        self.shortcut = _shortcut(n_in, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.shortcut(x) + self.convs[1](self.convs[0](x))
        return x + self.convs[3](self.convs[2](x))


class _Up(nn.Module):
    """The same on the way up, with what was seen on the way down, and with the style before three convolutions."""

    def __init__(self, n_in: int, n_out: int, n_style: int) -> None:
        super().__init__()
        self.first = _conv(n_in, n_out)
        self.convs = nn.ModuleList([_conv(n_out, n_out) for _ in range(3)])
        self.styles = nn.ModuleList([nn.Linear(n_style, n_out) for _ in range(3)])
        self.shortcut = _shortcut(n_in, n_out)

    def _styled(self, n: int, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return self.convs[n](x + self.styles[n](style)[:, :, None, None])

    def forward(self, x: torch.Tensor, seen: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        x = self.shortcut(x) + self._styled(0, self.first(x) + seen, style)
        return x + self._styled(2, self._styled(1, x, style), style)


class CytoNet(nn.Module):
    """From tiles (N, 2, side, side) to flows and cell probability (N, 3, side, side)."""

    def __init__(self) -> None:
        super().__init__()
        up = (*WIDTHS[1:], WIDTHS[-1])
        self.down = nn.ModuleList([_Down(*pair) for pair in zip(WIDTHS, WIDTHS[1:], strict=False)])
        self.up = nn.ModuleList([_Up(deep, flat, WIDTHS[-1]) for flat, deep in zip(up, up[1:], strict=False)])
        self.output = _conv(WIDTHS[1], 3, kernel=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seen = []
        for n, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if n else x)
            seen.append(x)
        style = functional.normalize(x.mean((2, 3)))
        for n in reversed(range(len(self.up))):
            x = self.up[n](
                x if n == len(self.up) - 1 else functional.interpolate(x, scale_factor=2), seen[n], style
            )
        return self.output(x)
