"""Networks of inverted residuals in plain torch: MobileNetV2 and EfficientNet-lite0, those of the bundled classifiers.

Their parameters have timm's names, so that timm's weights fit; timm itself, which takes longer to import than torch, is
not imported.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

_STEM, _LAST = 32, 1280


class _Stage(NamedTuple):
    """Blocks of one width: `wider` is how many times wider a block is inside; `stride` is that of the first block."""

    out: int
    blocks: int
    stride: int
    wider: int
    kernel: int = 3


#: Table 2 of the MobileNetV2 paper.
_MOBILENET_V2 = (
    _Stage(16, 1, 1, 1),
    _Stage(24, 2, 2, 6),
    _Stage(32, 3, 2, 6),
    _Stage(64, 4, 2, 6),
    _Stage(96, 3, 1, 6),
    _Stage(160, 3, 2, 6),
    _Stage(320, 1, 1, 6),
)
#: Table 1 of the EfficientNet paper; the lite networks have no squeeze-and-excitation, and ReLU6 for swish.
_EFFICIENTNET_LITE0 = (
    _Stage(16, 1, 1, 1),
    _Stage(24, 2, 2, 6),
    _Stage(40, 2, 2, 6, kernel=5),
    _Stage(80, 3, 2, 6),
    _Stage(112, 3, 1, 6, kernel=5),
    _Stage(192, 4, 2, 6, kernel=5),
    _Stage(320, 1, 1, 6),
)


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

    def __init__(self, channels: int, activation: nn.Module, eps: float) -> None:
        super().__init__(channels, eps=eps)
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


def _norm(channels: int, eps: float, active: bool = True) -> NormAct:
    return NormAct(channels, nn.ReLU6(inplace=True) if active else nn.Identity(), eps)


class DepthwiseSeparable(nn.Module):
    """A depthwise convolution and a 1 x 1 convolution."""

    def __init__(self, channels: int, stage: _Stage, stride: int, same: bool, eps: float) -> None:
        super().__init__()
        self.conv_dw = _conv(channels, channels, stage.kernel, stride, channels, same)
        self.bn1 = _norm(channels, eps)
        self.conv_pw = _conv(channels, stage.out, 1, 1, 1, same)
        self.bn2 = _norm(stage.out, eps, active=False)

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

    def __init__(self, channels: int, stage: _Stage, stride: int, same: bool, eps: float) -> None:
        super().__init__()
        inside = channels * stage.wider
        self.conv_pw = _conv(channels, inside, 1, 1, 1, same)
        self.bn1 = _norm(inside, eps)
        self.conv_dw = _conv(inside, inside, stage.kernel, stride, inside, same)
        self.bn2 = _norm(inside, eps)
        self.conv_pwl = _conv(inside, stage.out, 1, 1, 1, same)
        self.bn3 = _norm(stage.out, eps, active=False)
        self.shortcut = channels == stage.out and stride == 1

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


class InvertedResidualNet(nn.Module):
    """A stem, stages of inverted residuals, a 1 x 1 convolution, the mean over all places, and one linear layer.

    Parameters
    ----------
    stages : tuple of _Stage
    num_classes : int
        0 leaves out the last layer.
    same_padding : bool
        Pad as TensorFlow does, for weights that come from there; else as torch does.
    dropout : float
        Before the last layer.
    eps : float
        What batch normalisation adds to the variance.

    Attributes
    ----------
    num_features : int
        Length of the vector that feeds the last layer.
    """

    def __init__(
        self, stages: tuple[_Stage, ...], num_classes: int, same_padding: bool, dropout: float, eps: float
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = _LAST
        self.conv_stem = _conv(3, _STEM, 3, 2, 1, same_padding)
        self.bn1 = _norm(_STEM, eps)
        self.blocks = nn.Sequential()
        channels = _STEM
        for stage in stages:
            blocks = nn.Sequential()
            kind = DepthwiseSeparable if stage.wider == 1 else InvertedResidual
            for i in range(stage.blocks):
                blocks.append(kind(channels, stage, stage.stride if i == 0 else 1, same_padding, eps))
                channels = stage.out
            self.blocks.append(blocks)
        self.conv_head = _conv(channels, _LAST, 1, 1, 1, same_padding)
        self.bn2 = _norm(_LAST, eps)
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


class MobileNetV2(InvertedResidualNet):
    """MobileNetV2 of width 1, as timm's ``mobilenetv2_100``.

    Parameters
    ----------
    num_classes : int
        0 leaves out the last layer.
    same_padding : bool
        Pad as TensorFlow does, for weights that come from there; else as torch does.
    dropout : float
        Before the last layer.

    References
    ----------
    .. [1] Sandler, M., Howard, A., Zhu, M., Zhmoginov, A. & Chen, L.-C. (2018). MobileNetV2: inverted residuals and
       linear bottlenecks. CVPR.
    """

    def __init__(self, num_classes: int, same_padding: bool = False, dropout: float = 0.0) -> None:
        super().__init__(_MOBILENET_V2, num_classes, same_padding, dropout, eps=1e-5)


class EfficientNetLite0(InvertedResidualNet):
    """EfficientNet-lite0, as timm's ``tf_efficientnet_lite0``.

    Parameters
    ----------
    num_classes : int
        0 leaves out the last layer.

    References
    ----------
    .. [1] Tan, M. & Le, Q. V. (2019). EfficientNet: rethinking model scaling for convolutional neural networks. ICML.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(_EFFICIENTNET_LITE0, num_classes, same_padding=True, dropout=0.0, eps=1e-3)


def _start(module: nn.Module) -> None:
    """Draw a layer's first weights as timm does."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        reach = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -reach, reach)
        nn.init.zeros_(module.bias)
