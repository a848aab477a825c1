"""The MobileNetV2 network in plain torch, with timm's names, so that timm's weights fit and timm is not imported."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

#: Channels out, blocks, stride of the first, and how many times wider a block is inside, stage by stage.
_STAGES = (
    (16, 1, 1, 1),
    (24, 2, 2, 6),
    (32, 3, 2, 6),
    (64, 4, 2, 6),
    (96, 3, 1, 6),
    (160, 3, 2, 6),
    (320, 1, 1, 6),
)
_STEM, _LAST = 32, 1280


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does it: so much that the output has ceil(side / stride) pixels a side."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        images : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, D, h, w)
        """
        rows, columns = (
            max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
            for length, stride, kernel in zip(images.shape[-2:], self.stride, self.kernel_size, strict=True)
        )
        edges = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
        tensor: torch.Tensor = self._conv_forward(functional.pad(images, edges), self.weight, self.bias)
        return tensor


class NormAct(nn.BatchNorm2d):
    """Batch normalisation and the activation after it."""

    def __init__(self, channels: int, activation: nn.Module) -> None:
        super().__init__(channels)
        self.act = activation

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        images : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, C, H, W)
        """
        tensor: torch.Tensor = self.act(super().forward(images))
        return tensor


def _conv(channels: int, out: int, kernel: int, stride: int, groups: int, same: bool) -> nn.Conv2d:
    # With stride 1, both kinds of padding are the same.
    kind, padding = (SameConv2d, 0) if same and stride > 1 else (nn.Conv2d, kernel // 2)
    return kind(channels, out, kernel, stride, padding, groups=groups, bias=False)


def _norm(channels: int, active: bool = True) -> NormAct:
    return NormAct(channels, nn.ReLU6(inplace=True) if active else nn.Identity())


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution and a 1 x 1 convolution."""

    def __init__(self, channels: int, out: int, stride: int, same: bool) -> None:
        super().__init__()
        self.conv_dw = _conv(channels, channels, 3, stride, channels, same)
        self.bn1 = _norm(channels)
        self.conv_pw = _conv(channels, out, 1, 1, 1, same)
        self.bn2 = _norm(out, active=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Parameters
        ----------
        images : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, D, h, w)
        """
        tensor: torch.Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(images))))
        return tensor


class InvertedResidual(nn.Module):
    """A 1 x 1 convolution that widens, a depthwise one, and a 1 x 1 convolution that narrows; with a shortcut."""

    def __init__(self, channels: int, out: int, stride: int, wider: int, same: bool) -> None:
        super().__init__()
        inside = channels * wider
        self.conv_pw = _conv(channels, inside, 1, 1, 1, same)
        self.bn1 = _norm(inside)
        self.conv_dw = _conv(inside, inside, 3, stride, inside, same)
        self.bn2 = _norm(inside)
        self.conv_pwl = _conv(inside, out, 1, 1, 1, same)
        self.bn3 = _norm(out, active=False)
        self.shortcut = channels == out and stride == 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the block.

        Parameters
        ----------
        images : torch.Tensor, (N, C, H, W)

        Returns
        -------
        torch.Tensor, (N, D, h, w)
        """
        maps = self.bn1(self.conv_pw(images))
        maps = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(maps))))
        tensor: torch.Tensor = maps + images if self.shortcut else maps
        return tensor


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1, as timm's ``mobilenetv2_100``.

    Parameters
    ----------
    num_classes : int
        0 leaves out the last layer.
    same_padding : bool
        Pad as TensorFlow does, for weights that come from there; else as torch does.
    dropout : float
        Before the last layer.

    Attributes
    ----------
    num_features : int
        Length of the vector that feeds the last layer.

    References
    ----------
    .. [1] Sandler, M., Howard, A., Zhu, M., Zhmoginov, A. & Chen, L.-C. (2018). MobileNetV2: inverted residuals and
       linear bottlenecks. CVPR.
    """

    def __init__(self, num_classes: int, same_padding: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = _LAST
        self.conv_stem = _conv(3, _STEM, 3, 2, 1, same_padding)
        self.bn1 = _norm(_STEM)
        self.blocks = nn.Sequential()
        channels = _STEM
        for out, count, stride, wider in _STAGES:
            stage = nn.Sequential()
            for i in range(count):
                step = stride if i == 0 else 1
                stage.append(
                    DepthwiseSeparable(channels, out, step, same_padding)
                    if wider == 1
                    else InvertedResidual(channels, out, step, wider, same_padding)
                )
                channels = out
            self.blocks.append(stage)
        self.conv_head = _conv(channels, _LAST, 1, 1, 1, same_padding)
        self.bn2 = _norm(_LAST)
        self.head_drop = nn.Dropout(dropout)
        self.classifier: nn.Module = nn.Linear(_LAST, num_classes) if num_classes else nn.Identity()
        self.apply(_start)

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last maps.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, 1280, h, w)
        """
        tensor: torch.Tensor = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(images)))))
        return tensor

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute the logits from the last maps.

        Parameters
        ----------
        maps : torch.Tensor
            As `forward_features` returns them.
        pre_logits : bool
            Return the vectors that the last layer takes.

        Returns
        -------
        torch.Tensor, (N, C)
            Logits; or the vectors, (N, 1280).
        """
        vectors = self.head_drop(functional.adaptive_avg_pool2d(maps, 1).flatten(1))
        tensor: torch.Tensor = vectors if pre_logits else self.classifier(vectors)
        return tensor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the logits.

        Parameters
        ----------
        images : torch.Tensor, (N, 3, H, W)

        Returns
        -------
        torch.Tensor, (N, C)
        """
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last layer by a new one.

        Parameters
        ----------
        num_classes : int
            If it is 0, there is no last layer, and the network returns its vectors.
        """
        self.num_classes = num_classes
        weight = self.conv_head.weight
        last = nn.Linear(_LAST, num_classes) if num_classes else nn.Identity()
        self.classifier = last.to(weight.device, weight.dtype).train(self.training)


def _start(module: nn.Module) -> None:
    """Draw a layer's first weights as timm does."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        reach = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -reach, reach)
        nn.init.zeros_(module.bias)
