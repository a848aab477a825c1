"""Activations from integer-friendly parts: a polynomial exponential, probabilities that are powers of two.

What is computed forwards is the quantised function; what flows backwards is the gradient of the function
that it stands for (straight through), so that networks with these activations train like others.

References
----------
Kim et al. (2021), I-BERT: integer-only BERT quantization, arXiv:2101.01321 (the polynomial of `i_exp`).
Lin et al. (2022), FQ-ViT: post-training quantization for fully quantized vision transformer,
arXiv:2111.13824 (the log2 softmax).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

#: exp(p) on (-ln 2, 0] is about A (p + B)^2 + C.
_A, _B, _C = 0.3585, 1.353, 0.344
_LN2 = 0.6931471805599453
#: The polynomial at 0, which stands for 1.
_ONE = _A * _B * _B + _C


def i_exp(x: torch.Tensor) -> torch.Tensor:
    """Approximate exp(x) for x <= 0 by a quadratic polynomial and a shift.

    With z = floor(-x / ln 2) = -ceil(x / ln 2) and p = x + z ln 2 in (-ln 2, 0], exp(x) = exp(p) / 2^z: the
    polynomial takes the first factor, and the second is a shift of bits on hardware that computes with
    integers.

    Parameters
    ----------
    x : torch.Tensor, any shape
        Not above 0.

    Returns
    -------
    torch.Tensor
        Same shape, within 0.0022 of exp(x).
    """
    power = torch.ceil(x * (1 / _LN2))
    rest = torch.sub(x, power, alpha=_LN2)
    # A (p + B)^2 + C, multiplied out
    return ((rest * _A + 2 * _A * _B) * rest + _ONE) * torch.exp2(power)


def straight_through(
    hard: Callable[[torch.Tensor], torch.Tensor],
    soft: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
) -> torch.Tensor:
    """Return hard(x), with the gradient of soft(x).

    Both are computed in float32 whatever the precision around them, and the values are bit for bit those
    of `hard` whether or not a gradient is wanted: a power of two must not be off by a rounding.
    """
    wide = x.float()
    with torch.no_grad():
        value = hard(wide)
    if torch.is_grad_enabled() and x.requires_grad:
        smooth = soft(wide)
        value = value + (smooth - smooth.detach())
    return value.to(x.dtype)


def i_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Softmax along a dimension, with `i_exp` for the exponential; it sums to one."""

    def hard(x: torch.Tensor) -> torch.Tensor:
        powers = i_exp(x - x.amax(dim, keepdim=True))
        return powers / powers.sum(dim, keepdim=True)

    return straight_through(hard, lambda x: torch.softmax(x, dim), x)


def log2_softmax(x: torch.Tensor, dim: int, bits: int = 4) -> torch.Tensor:
    """Softmax along a dimension whose probabilities are quantised to powers of two.

    The code of a probability is round(log2(sum of i_exp / i_exp)), clipped to `bits` bits; a product with
    the probability is a shift by the code. (The paper's equation 6 counts the codes downwards, from 2^bits
    - 1.)

    Parameters
    ----------
    x : torch.Tensor, any shape
    dim : int
    bits : int
        The smallest probability is 2^-(2^bits - 1).

    Returns
    -------
    torch.Tensor
        Same shape, powers of two in (0, 1]; they sum to one only about.
    """

    def hard(x: torch.Tensor) -> torch.Tensor:
        powers = i_exp(x - x.amax(dim, keepdim=True))
        shares = powers / powers.sum(dim, keepdim=True)
        return torch.exp2(torch.log2(shares).round().clamp(1 - 2**bits, 0))

    return straight_through(hard, lambda x: torch.softmax(x, dim), x)


def i_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Logistic function, with `i_exp` for the exponential."""

    return straight_through(_hard_sigmoid, torch.sigmoid, x)


def _hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    power = i_exp(-x.abs()) * (1 / _ONE)
    # power / (1 + power) is the function at -|x|.
    return 0.5 + torch.sign(x) * (0.5 - power / (1 + power))


class Log2SiLU(nn.Module):
    """x times its logistic function, the latter quantised to a power of two.

    The logistic function of x is the softmax of the pair (x, 0), so this is `log2_softmax` used as the gate
    of an activation: what is left of the product is a shift of x by at most 2^bits - 1 bits.
    """

    def __init__(self, bits: int = 4) -> None:
        super().__init__()
        self.largest = 2**bits - 1

    def _gate(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp2(torch.log2(_hard_sigmoid(x)).round().clamp(-self.largest, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate a tensor of any shape."""
        return x * straight_through(self._gate, torch.sigmoid, x)

    def extra_repr(self) -> str:
        """Name the bits of the gate."""
        return f"bits={(self.largest + 1).bit_length() - 1}"
