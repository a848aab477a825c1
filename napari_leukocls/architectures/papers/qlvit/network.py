"""The QLViT network: a large-kernel stem, four stages of CLA blocks, and a quantised linear head.

Why these widths and depths
---------------------------
Wu et al. (2025) do not state them, but they follow from the paper's table. The step with perceptrons has
25.09 M parameters and 4.27 G multiply-accumulates, the step with KAN layers 9.07 M and 1.95 G: 16.02 M and
2.32 G less. The perceptrons of MViTv2-T, whose widths are 96, 192, 384, 768 and depths 1, 2, 5, 2 (ten blocks,
as the paper says), have 16.02 M parameters and 2.31 G multiply-accumulates. So the widths and depths are those of
MViTv2-T, and the paper counts the removed perceptrons but not the added KAN layers: a full KAN layer has 9
parameters for each edge, more than the perceptron.

Here everything is counted. To reach the paper's size, the edges of a KAN layer connect only channels of the same
one of 16 groups (9/16 of width^2 parameters), and the linear layers of the next block mix the groups. The stem's
kernel is 15 x 15, and keys and values are computed from the map before it is halved. That gives 8.93 M
parameters and 1.99 G multiply-accumulates for 8 classes at 224 px, products within attention (0.28 G) and
splines included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from napari_leukocls.architectures.base import SizeGuard
from napari_leukocls.architectures.entry import INPUT
from napari_leukocls.architectures.papers.qlvit.blocks import Attention, CLABlock, CLAOptions
from napari_leukocls.architectures.papers.qlvit.quantisation import Int8Linear, replace_quantised
from napari_leukocls.errors import ArgumentError

#: The steps of the ablation; each adds one option to the step before.
STEPS = {
    "v0": CLAOptions(dynamic=False, quantised=False, linear=False, kan=False),
    "v1": CLAOptions(dynamic=True, quantised=False, linear=False, kan=False),
    "v2": CLAOptions(dynamic=True, quantised=True, linear=False, kan=False),
    "v3": CLAOptions(dynamic=True, quantised=True, linear=True, kan=False),
    "v4": CLAOptions(),
}


class Stem(nn.Conv2d):
    """A convolution in one memory format, so that the format of its input does not change its rounding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Convolve images.

        Parameters
        ----------
        x : torch.Tensor, (B, 3, h, w)

        Returns
        -------
        torch.Tensor, (B, C, h / 4, w / 4)
        """
        weight = self.weight.contiguous()
        return functional.conv2d(x.contiguous(), weight, self.bias, self.stride, self.padding)


class QLViT(nn.Module):
    """Quantised linear vision transformer.

    Parameters
    ----------
    num_classes : int
        0 for no head.
    widths, depths, heads : sequence of int
        Channels, blocks and attention heads of each of the four stages.
    stem_kernel : int
        Side of the stem's kernel, odd.
    drop_rate : float
        Dropout before the head.
    drop_path_rate : float
        Stochastic depth of the last block; it increases linearly over the blocks.
    options : CLAOptions

    Raises
    ------
    ArgumentError
        If the widths do not fit the heads or the groups.

    References
    ----------
    Wu et al. (2025), QLViT: a lightweight cell classification method for microscope images based on MViTv2
    and linear attention.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (96, 192, 384, 768),
        depths: Sequence[int] = (1, 2, 5, 2),
        heads: Sequence[int] = (1, 2, 4, 8),
        stem_kernel: int = 15,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        options: CLAOptions | None = None,
    ) -> None:
        super().__init__()
        self.options = options or CLAOptions()
        _check(widths, depths, heads, stem_kernel)
        self.guard = SizeGuard("QLViT", INPUT)
        self.num_features = widths[-1]
        self.stem = Stem(3, widths[0], stem_kernel, stride=4, padding=stem_kernel // 2)
        drops = [drop_path_rate * i / max(sum(depths) - 1, 1) for i in range(sum(depths))]
        self.stages = nn.ModuleList()
        before = widths[0]
        for level, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[CLABlock] = []
            for i in range(depth):
                stride = 2 if level and not i else 1
                # All stages have as many keys as the third stage has queries; its map is 16 times smaller.
                kv_stride = max(1, 4 // 2 ** (level - (stride == 2)))
                drop = drops[len(blocks) + sum(depths[:level])]
                blocks.append(CLABlock(before, width, heads[level], stride, kv_stride, drop, self.options))
                before = width
            self.stages.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(before, eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head: nn.Module = nn.Identity()
        self.reset_classifier(num_classes)
        self.apply(_initialise)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the last map.

        Parameters
        ----------
        x : torch.Tensor, (B, 3, h, w)

        Returns
        -------
        torch.Tensor, (B, C, h / 32, w / 32)

        Raises
        ------
        ModelError
            If the images are not colour images whose sides are multiples of 32.
        """
        self.guard.check(x)
        x = self.stem(x).permute(0, 2, 3, 1)
        for stage in self.stages:
            x = stage(x)
        maps: torch.Tensor = self.norm(x).permute(0, 3, 1, 2)
        return maps

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Pool the last map, and compute logits.

        Parameters
        ----------
        x : torch.Tensor, (B, C, H, W)
        pre_logits : bool
            Return the pooled features instead.

        Returns
        -------
        torch.Tensor, (B, num_classes) or (B, C)
        """
        x = self.head_drop(x.mean((2, 3)))
        return x if pre_logits else self.head(x)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Parameters
        ----------
        x : torch.Tensor, (B, 3, h, w)

        Returns
        -------
        torch.Tensor, (B, num_classes)
        """
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """Return the layer from pooled features to logits."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the head.

        Parameters
        ----------
        num_classes : int
            0 for no head.
        global_pool : {"avg"}, optional

        Raises
        ------
        ArgumentError
            For another kind of pooling.
        """
        if global_pool not in (None, "avg"):
            raise ArgumentError(
                f"QLViT pools by the average alone, not by {global_pool!r}: leave global_pool out."
            )
        self.num_classes = num_classes
        self.head = self.options.dense(self.num_features, num_classes) if num_classes else nn.Identity()
        self.head.to(self.norm.weight.device).apply(_initialise)


def _check(widths: Sequence[int], depths: Sequence[int], heads: Sequence[int], stem_kernel: int) -> None:
    if not len(widths) == len(depths) == len(heads) == 4:
        raise ArgumentError("QLViT has four stages: give four widths, depths and heads.")
    if stem_kernel % 2 == 0:
        raise ArgumentError(f"QLViT's stem_kernel must be odd, not {stem_kernel}.")
    wrong = [f"{width} by {n}" for width, n in zip(widths, heads, strict=True) if width % n]
    if wrong:
        raise ArgumentError(f"QLViT's widths must be multiples of its heads, which {wrong[0]} is not.")


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, Attention):  # after its layers
        module.centre()


def unfreezing_stages(net: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the names of the modules that are unfrozen together, from the head to the stem.

    Parameters
    ----------
    net : QLViT

    Returns
    -------
    tuple of tuple of str
    """
    stages = [(f"stages.{level}",) for level in reversed(range(len(net.stages)))]  # type: ignore[arg-type]
    return (("head",), ("norm", *stages[0]), *stages[1:], ("stem",))


def empty_int8(net: nn.Module) -> nn.Module:
    """Replace the quantised layers by empty int8 layers, for the weights of a converted network.

    Parameters
    ----------
    net : QLViT

    Returns
    -------
    torch.nn.Module
        The same network, in evaluation mode.
    """
    replace_quantised(net, lambda layer: Int8Linear(layer.in_features, layer.out_features))
    return net.eval()
