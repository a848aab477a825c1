"""The parts of QLViT: dynamic convolution, the two attentions, and the CLA block.

Inside the blocks, maps are (B, H, W, C): linear layers and normalisations act on the last dimension, and
convolutions get the same memory in the channels-last format.

References
----------
Chen et al. (2020), Dynamic convolution: attention over convolution kernels, CVPR.
Wu et al. (2022), Flowformer: linearizing transformers with conservation flows, ICML.
Li et al. (2022), MViTv2: improved multiscale vision transformers for classification and detection, CVPR.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.layers.drop import DropPath
from torch import nn
from torch.nn import functional

from napari_leukocls.architectures.papers.qlvit.kan import KANLinear
from napari_leukocls.architectures.papers.qlvit.quantisation import (
    Log2SiLU,
    QuantLinear,
    i_sigmoid,
    i_softmax,
    log2_softmax,
)


@dataclass(frozen=True)
class CLAOptions:
    """The options in which the steps from a transformer block to the CLA block differ.

    Attributes
    ----------
    dynamic
        Dynamic convolution rather than one kernel, and quantised activations in it and in the attention.
    quantised
        Eight-bit linear layers, and quantised activations in the perceptron.
    linear
        Linear attention rather than softmax(Q K^T) V.
    kan
        A KAN layer rather than the perceptron.
    kernels, temperature
        Number of kernels that the dynamic convolution mixes, and the temperature of the softmax of their shares.
    kan_groups, kan_cells
        Groups of a KAN layer's edges, and intervals of its grid.
    """

    dynamic: bool = True
    quantised: bool = True
    linear: bool = True
    kan: bool = True
    kernels: int = 4
    temperature: float = 4.0
    kan_groups: int = 16
    kan_cells: int = 5

    def dense(self, in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
        """Build a linear layer, quantised or not.

        Parameters
        ----------
        in_features, out_features : int
        bias : bool

        Returns
        -------
        torch.nn.Linear
        """
        kind = QuantLinear if self.quantised else nn.Linear
        return kind(in_features, out_features, bias)


class DepthwiseConv(nn.Conv2d):
    """A 3 x 3 depthwise convolution on maps (B, H, W, C).

    Parameters
    ----------
    width : int
        Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 3, padding=1, groups=width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve maps.

        Parameters
        ----------
        x : torch.Tensor, (B, H, W, C)

        Returns
        -------
        torch.Tensor, (B, H, W, C)
        """
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class DynamicConv(nn.Module):
    """A 3 x 3 depthwise convolution whose kernel is a mixture of several kernels, different for each image.

    The shares pi = softmax(z / temperature) come from the globally pooled map by two linear layers; kernel
    and bias are the sums of the candidates by these shares. All images of a batch are convolved at once, as
    the groups of one convolution.

    Parameters
    ----------
    width : int
        Channels.
    options : CLAOptions
    """

    def __init__(self, width: int, options: CLAOptions) -> None:
        super().__init__()
        self.temperature = options.temperature
        hidden = max(width // 4, options.kernels)
        self.squeeze = options.dense(width, hidden)
        self.excite = options.dense(hidden, options.kernels)
        # One row a kernel: a change of memory format would reorder a four-dimensional parameter.
        self.weight = nn.Parameter(torch.empty(options.kernels, width * 9))
        self.bias = nn.Parameter(torch.empty(options.kernels, width))
        # At first the shares are equal: this standard deviation then preserves the variance of the input.
        nn.init.normal_(self.weight, std=options.kernels**0.5 / 3)
        nn.init.zeros_(self.bias)

    def shares(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the kernels' shares, which sum to one.

        Parameters
        ----------
        x : torch.Tensor, (B, H, W, C)

        Returns
        -------
        torch.Tensor, (B, K)
        """
        logits = self.excite(functional.relu(self.squeeze(x.mean((1, 2)))))
        return i_softmax(logits.float() / self.temperature, -1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve maps.

        Parameters
        ----------
        x : torch.Tensor, (B, H, W, C)

        Returns
        -------
        torch.Tensor, (B, H, W, C)
        """
        batch, height, width, channels = x.shape
        # Not a matrix product: its rounding would depend on the number of images.
        shares = self.shares(x)[..., None]
        weight = (shares * self.weight).sum(1).view(batch * channels, 1, 3, 3)
        bias = (shares * self.bias).sum(1).view(-1)
        maps = x.permute(0, 3, 1, 2).reshape(1, batch * channels, height, width)
        maps = functional.conv2d(maps, weight, bias, padding=1, groups=batch * channels)
        return maps.view(batch, channels, height, width).permute(0, 2, 3, 1)


def linear_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Linear attention: sigmoid(Q) (sigmoid(K)^T softmax(V)) / sqrt(d), softmax over tokens in powers of two.

    The product of K and V is a (d, d) summary of all tokens, so that the cost grows linearly with their
    number.

    Parameters
    ----------
    q : torch.Tensor, (B, heads, M, d)
    k, v : torch.Tensor, (B, heads, N, d)

    Returns
    -------
    torch.Tensor, (B, heads, M, d)
    """
    summary = i_sigmoid(k).transpose(-2, -1) @ log2_softmax(v, dim=-2)
    attended: torch.Tensor = (i_sigmoid(q) @ summary) * q.shape[-1] ** -0.5
    return attended


def softmax_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, log2: bool) -> torch.Tensor:
    """Attention: softmax(Q K^T / sqrt(d)) V.

    Parameters
    ----------
    q : torch.Tensor, (B, heads, M, d)
    k, v : torch.Tensor, (B, heads, N, d)
    log2 : bool
        Whether the attention weights are rounded to powers of two.

    Returns
    -------
    torch.Tensor, (B, heads, M, d)
    """
    if not log2:
        return functional.scaled_dot_product_attention(q, k, v)
    return log2_softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1), dim=-1) @ v


class Attention(nn.Module):
    """Multi-head attention with pooled queries, which are added to the result, as in MViTv2.

    Parameters
    ----------
    dim_in, dim : int
        Channels in and out.
    heads : int
    stride : int
        Pooling of the queries, and so of the map.
    kv_stride : int
        Pooling of keys and values; linear attention does not pool them.
    options : CLAOptions
    """

    def __init__(
        self, dim_in: int, dim: int, heads: int, stride: int, kv_stride: int, options: CLAOptions
    ) -> None:
        super().__init__()
        self.heads, self.stride, self.options = heads, stride, options
        self.kv_stride = 1 if options.linear else kv_stride
        # No biases: the convolution before has one, and a bias of V (of K, under a softmax) has no effect.
        self.q = options.dense(dim_in, dim, bias=False)
        self.kv = options.dense(dim_in, 2 * dim, bias=False)
        self.proj = options.dense(dim, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply attention to maps.

        Parameters
        ----------
        x : torch.Tensor, (B, H, W, dim_in)

        Returns
        -------
        torch.Tensor, (B, H / stride, W / stride, dim)
        """
        queries = _pooled(x, self.stride)
        shape = queries.shape[:3]
        q = self._split(self.q(queries))
        k, v = self._split(self.kv(_pooled(x, self.kv_stride))).chunk(2, 1)
        if self.options.linear:
            out = linear_attention(q, k, v)
        else:
            out = softmax_attention(q, k, v, log2=self.options.dynamic)
        attended: torch.Tensor = self.proj((out + q).transpose(1, 2).reshape(*shape, -1))
        return attended

    @torch.no_grad()
    def centre(self) -> None:
        """Initialise the bias of the projection so that it subtracts the constant part of linear attention.

        At first a sigmoid is about 1/2, and a softmax sums to one over the tokens, so that each value is near
        d x 1/2 x 1/2 / sqrt(d) for every image. This constant is larger than the differences between images:
        without the subtraction the network needs several times as many steps to start learning.
        """
        if self.options.linear:
            head_width = self.q.out_features // self.heads
            self.proj.bias.copy_(-self.proj.weight.sum(1) * head_width**0.5 / 4)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, H, W, n d) to (B, n, H x W, d)."""
        width = self.q.out_features // self.heads
        return x.reshape(x.shape[0], x.shape[1] * x.shape[2], -1, width).transpose(1, 2)


def _pooled(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Average maps (B, H, W, C) over squares."""
    if stride == 1:
        return x
    return functional.avg_pool2d(x.permute(0, 3, 1, 2), stride).permute(0, 2, 3, 1)


class Perceptron(nn.Sequential):
    """Two linear layers, with four times the width between them.

    Parameters
    ----------
    dim : int
        Channels.
    options : CLAOptions
    """

    def __init__(self, dim: int, options: CLAOptions) -> None:
        act = Log2SiLU() if options.quantised else nn.GELU()
        super().__init__(options.dense(dim, 4 * dim), act, options.dense(4 * dim, dim))


class CLABlock(nn.Module):
    """Convolution and attention, then a KAN layer or perceptron, each after a norm with a residual connection.

    Parameters
    ----------
    dim_in, dim : int
        Channels in and out.
    heads : int
    stride : int
        2 where the map is halved.
    kv_stride : int
        Pooling of keys and values where attention is not linear.
    drop_path : float
        Share of images for which, in training, a branch is left out.
    options : CLAOptions
    """

    def __init__(
        self,
        dim_in: int,
        dim: int,
        heads: int,
        stride: int,
        kv_stride: int,
        drop_path: float,
        options: CLAOptions,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.norm1 = nn.LayerNorm(dim_in, eps=1e-6)
        self.conv = DynamicConv(dim_in, options) if options.dynamic else DepthwiseConv(dim_in)
        self.act = Log2SiLU() if options.dynamic else nn.SiLU()
        self.attention = Attention(dim_in, dim, heads, stride, kv_stride, options)
        self.skip = options.dense(dim_in, dim) if dim_in != dim else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mixer: nn.Module = (
            KANLinear(dim, dim, groups=options.kan_groups, cells=options.kan_cells)
            if options.kan
            else Perceptron(dim, options)
        )
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the block to maps.

        Parameters
        ----------
        x : torch.Tensor, (B, H, W, dim_in)

        Returns
        -------
        torch.Tensor, (B, H / stride, W / stride, dim)
        """
        normed = self.norm1(x)
        # Where the width changes, the residual connection is a linear layer of the normalised map, as in MViTv2.
        residual = self.skip(_pooled(x if isinstance(self.skip, nn.Identity) else normed, self.stride))
        x = residual + self.drop_path(self.attention(self.act(self.conv(normed))))
        mixed: torch.Tensor = x + self.drop_path(self.mixer(self.norm2(x)))
        return mixed
