"""The networks of the hybrids: the last map of a CNN as the tokens of a small transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers.norm import LayerNorm2d
from torch import nn
from torch.nn import functional

from napari_leukocls.architectures.base import Attention, HeadedNet, SizeGuard, to_tokens

#: Backbone to its timm name and the side of its last map at 224 px.
BACKBONES = {
    "customcnn": ("", 14),
    "resnet50": ("resnet50", 7),
    "efficientnetb3": ("efficientnet_b3", 7),
    "inceptionv3": ("inception_v3", 5),
}
#: Width of the tokens in the paper's text, and the number of heads that this width is divided by.
TEXT_WIDTH = 256
HEADS = 8
#: Side of the map for which the shared transformer has learned positions; for others they are interpolated.
SHARED_GRID = 7


class CustomCNN(nn.Module):
    """Six 3x3 convolutions and four poolings: 224 px to a map of 14 x 14 x 256.

    The paper states the size of the map, and its counts leave 421,824 parameters for this network. These widths,
    convolutions without bias, and norms without running statistics (the paper has no parameters that are not
    trained) give that number.
    """

    num_features = 256

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 32, 48, 64, 128, 256)
        pooled = (True, True, False, True, False, True)
        layers: list[nn.Module] = []
        for before, after, pool in zip(widths[:-1], widths[1:], pooled, strict=True):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.GroupNorm(after // 16, after)]
            layers += [nn.ReLU()] + [nn.MaxPool2d(2)] * pool
        self.layers = nn.Sequential(*layers)
        self.norm = LayerNorm2d(self.num_features, eps=1e-6)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the map.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, 256, H / 16, W / 16)
        """
        maps: torch.Tensor = self.norm(self.layers(images))
        return maps


def make_backbone(name: str) -> Any:
    """Build a backbone without its head.

    Parameters
    ----------
    name : str
        A key of `BACKBONES`.

    Returns
    -------
    torch.nn.Module
        With `forward_features` and `num_features`.
    """
    timm_name, _ = BACKBONES[name]
    return timm.create_model(timm_name, pretrained=False, num_classes=0) if timm_name else CustomCNN()


class Block(nn.Module):
    """Attention and a feed-forward network, each after a layer norm and with a residual connection.

    Parameters
    ----------
    width : int
        Of the tokens.
    heads, head_width : int
        Of the attention.
    hidden : int
        Width of the feed-forward network.
    dropout : float
    """

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, head_width, dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.feed = nn.Sequential(
            nn.Linear(width, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width),
            nn.Dropout(dropout),
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Transform tokens.

        Parameters
        ----------
        tokens : torch.Tensor, (N, L, C)

        Returns
        -------
        torch.Tensor, (N, L, C)
        """
        tokens = tokens + self.attention(self.norm1(tokens))
        changed: torch.Tensor = tokens + self.feed(self.norm2(tokens))
        return changed


def sine_positions(height: int, width: int, channels: int, like: torch.Tensor) -> torch.Tensor:
    """Compute fixed positions: sines and cosines of the row, then of the column.

    Parameters
    ----------
    height, width : int
        Of the map.
    channels : int
        A multiple of 4.
    like : torch.Tensor
        Gives the device and the type.

    Returns
    -------
    torch.Tensor, (1, height x width, channels)

    References
    ----------
    Vaswani et al. (2017). Attention is all you need. NeurIPS.
    """
    quarter = channels // 4
    steps = torch.arange(quarter, device=like.device, dtype=torch.float32)
    frequency = torch.exp(steps * (-math.log(10000.0) / quarter))
    rows = torch.arange(height, device=like.device, dtype=torch.float32)[:, None] * frequency
    columns = torch.arange(width, device=like.device, dtype=torch.float32)[:, None] * frequency
    of_row = torch.cat((rows.sin(), rows.cos()), 1)[:, None].expand(-1, width, -1)
    of_column = torch.cat((columns.sin(), columns.cos()), 1)[None].expand(height, -1, -1)
    return torch.cat((of_row, of_column), 2).flatten(0, 1)[None].to(like.dtype)


def resized_positions(positions: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Interpolate learned positions to the size of a map.

    Parameters
    ----------
    positions : torch.Tensor, (1, S x S, C)
    height, width : int
        Of the map.

    Returns
    -------
    torch.Tensor, (1, height x width, C)
    """
    side = math.isqrt(positions.shape[1])
    if (height, width) == (side, side):
        return positions
    maps = torch.unflatten(positions.transpose(1, 2), 2, (side, side))
    return to_tokens(functional.interpolate(maps, (height, width), mode="bilinear", align_corners=False))


class TextHybrid(HeadedNet):
    """The paper's text: tokens of width 256, learned positions, and fusion with the pooled map.

    Parameters
    ----------
    guard : SizeGuard
    num_classes : int
    backbone : str
        A key of `BACKBONES`.
    heads : sequence of int
        One number for each block.
    fusion : bool
        Whether the last layer gets the pooled map in addition to the pooled tokens.
    dropout, head_dropout : float
        In the transformer, and before the last layer.
    """

    def __init__(
        self,
        guard: SizeGuard,
        num_classes: int,
        backbone: str,
        heads: Sequence[int],
        fusion: bool,
        dropout: float,
        head_dropout: float,
    ) -> None:
        body = make_backbone(backbone)
        width = TEXT_WIDTH
        fused = width + (body.num_features if fusion else 0)
        super().__init__(guard, fused, num_classes, head_dropout)
        self.backbone = body
        self.last_map = nn.Identity()
        self.embed = nn.Linear(body.num_features, width)
        self.position = nn.Parameter(torch.zeros(1, BACKBONES[backbone][1] ** 2, width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, count, width // HEADS, width, dropout) for count in heads)
        self.fusion = fusion
        self.norm = nn.LayerNorm(fused, eps=1e-6)

    def forward_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the CNN's map and the transformer's tokens.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        maps : torch.Tensor, (N, C, h, w)
        tokens : torch.Tensor, (N, h x w, 256)

        Raises
        ------
        ModelError
            If the images have another size than the network takes.
        """
        self.guard.check(images)
        maps = self.last_map(self.backbone.forward_features(images))
        tokens = self.embed(to_tokens(maps)) + resized_positions(self.position, *maps.shape[-2:])
        tokens = self.drop(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return maps, tokens

    def pooled(self, maps: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Pool the map and the tokens.

        Parameters
        ----------
        maps : tuple of torch.Tensor
            As `forward_features` gives them.

        Returns
        -------
        torch.Tensor, (N, D)
            Inputs of the last layer.
        """
        cnn, tokens = maps
        parts = (cnn.mean((2, 3)), tokens.mean(1)) if self.fusion else (tokens.mean(1),)
        vectors: torch.Tensor = self.norm(torch.cat(parts, 1))
        return vectors


class TableHybrid(HeadedNet):
    """The paper's table: tokens as wide as the map, and every head as wide as a token.

    Only the backbone, the blocks and the last layer have parameters, so that the positions are fixed. The
    parameters are those of `TextHybrid`.
    """

    def __init__(
        self,
        guard: SizeGuard,
        num_classes: int,
        backbone: str,
        heads: Sequence[int],
        fusion: bool,
        dropout: float,
        head_dropout: float,
    ) -> None:
        body = make_backbone(backbone)
        width = body.num_features
        super().__init__(guard, width * (1 + fusion), num_classes, head_dropout)
        self.backbone = body
        self.last_map = nn.Identity()
        self.blocks = nn.ModuleList(Block(width, count, width, 4 * width, dropout) for count in heads)
        self.fusion = fusion
        self.norm = nn.LayerNorm(2 * width, eps=1e-6) if fusion else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute the CNN's map and the transformer's tokens.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        maps : torch.Tensor, (N, C, h, w)
        tokens : torch.Tensor, (N, h x w, C)

        Raises
        ------
        ModelError
            If the images have another size than the network takes.
        """
        self.guard.check(images)
        maps = self.last_map(self.backbone.forward_features(images))
        tokens = to_tokens(maps)
        height, width = maps.shape[-2:]
        tokens = tokens + sine_positions(height, width, tokens.shape[2], tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return maps, tokens

    pooled = TextHybrid.pooled


class SharedHybrid(HeadedNet):
    """Several backbones, one transformer and one head; the backbones' vectors are averaged.

    Parameters
    ----------
    guard : SizeGuard
    num_classes : int
    backbones : sequence of str
        Keys of `BACKBONES`.
    heads : sequence of int
        One number for each block.
    dropout, head_dropout : float
        In the transformer, and before the last layer.
    """

    def __init__(
        self,
        guard: SizeGuard,
        num_classes: int,
        backbones: Sequence[str],
        heads: Sequence[int],
        dropout: float,
        head_dropout: float,
    ) -> None:
        width = TEXT_WIDTH
        super().__init__(guard, 2 * width, num_classes, head_dropout)
        bodies = {name: make_backbone(name) for name in backbones}
        self.backbones = nn.ModuleDict(bodies)
        self.embeds = nn.ModuleDict(
            {name: nn.Linear(body.num_features, width) for name, body in bodies.items()}
        )
        self.position = nn.Parameter(torch.zeros(1, SHARED_GRID**2, width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.last_map = nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, count, width // HEADS, width, dropout) for count in heads)
        self.norm = nn.LayerNorm(2 * width, eps=1e-6)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the vectors of each backbone: tokens pooled before and after the transformer.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, backbones, 512)

        Raises
        ------
        ModelError
            If the images have another size than the network takes.
        """
        self.guard.check(images)
        vectors = []
        for name, embed in self.embeds.items():
            body: Any = self.backbones[name]
            maps = self.last_map(body.forward_features(images))
            before = embed(to_tokens(maps))
            tokens = self.drop(before + resized_positions(self.position, *maps.shape[-2:]))
            for block in self.blocks:
                tokens = block(tokens)
            vectors.append(torch.cat((before.mean(1), tokens.mean(1)), 1))
        return torch.stack(vectors, 1)

    def pooled(self, maps: torch.Tensor) -> torch.Tensor:
        """Average the normalised vectors of the backbones.

        Parameters
        ----------
        maps : torch.Tensor, (N, backbones, 512)

        Returns
        -------
        torch.Tensor, (N, 512)
        """
        vectors: torch.Tensor = self.norm(maps).mean(1)
        return vectors
