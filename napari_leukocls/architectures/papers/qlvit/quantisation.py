"""Linear layers in eight bits: quantised in training, and with integers in prediction.

References
----------
.. [1] Jacob et al. (2018). Quantization and training of neural networks for efficient integer-arithmetic-only
       inference. CVPR.
.. [2] Kim et al. (2021). I-BERT: integer-only BERT quantization. ICML.
.. [3] Lin et al. (2022). FQ-ViT: post-training quantization for fully quantized vision transformer. IJCAI.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from napari_leukocls.errors import ModelError

#: Largest magnitude of a weight's code: symmetric, so that weights need no zero point.
_WEIGHT_LEVELS = 127
#: Subtracted from the unsigned code of an activation to give int8.
_SIGNED = 128
#: The codes of weights are multiplied by this factor, so that their sums fit half precision; a power of two is
#: exact.
_FRACTION = 2.0**-13

#: exp(p) on (-ln 2, 0] is about A (p + B)^2 + C.
_A, _B, _C = 0.3585, 1.353, 0.344
_LN2 = 0.6931471805599453
#: Value of the polynomial at 0, instead of 1.
_ONE = _A * _B * _B + _C


class _Round(torch.autograd.Function):
    """Rounding with the straight-through gradient."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> torch.Tensor:
        return grads[0]


def _round(x: torch.Tensor) -> torch.Tensor:
    return _Round.apply(x) if torch.is_grad_enabled() and x.requires_grad else x.round()


class AffineQuantizer(nn.Module):
    """Uniform affine quantiser of activations: codes round(x / scale) + zero point, in `bits` bits [1]_.

    In training, the codes cover the range of the batch, extended to include 0. A moving average of the range is
    used in evaluation, so that the codes of an image do not depend on the other images of its batch. Values
    outside the range are clipped and have a gradient of 0; inside, the gradient is passed unchanged.

    Parameters
    ----------
    bits : int
    momentum : float
        Weight of a new batch in the moving average.
    """

    low: torch.Tensor
    high: torch.Tensor
    scale: torch.Tensor
    zero_point: torch.Tensor
    batches: torch.Tensor

    def __init__(self, bits: int = 8, momentum: float = 0.1) -> None:
        super().__init__()
        self.levels = 2**bits - 1
        self.momentum = momentum
        # Before the first batch: outputs of normalisations are seldom outside this range.
        low, high = torch.tensor(-6.0), torch.tensor(6.0)
        scale, zero_point = self._grid(low, high)
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", zero_point)
        self.register_buffer("batches", torch.tensor(0))

    def _grid(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scale = ((high - low) / self.levels).clamp(min=1e-8)
        return scale, (-low / scale).round().clamp(0, self.levels).int()

    @torch.no_grad()
    def observe(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Update the moving range with a batch.

        Parameters
        ----------
        x : torch.Tensor

        Returns
        -------
        scale, zero_point : torch.Tensor, ()
            Of the range of this batch.
        """
        lowest, highest = torch.aminmax(x.float())
        lowest, highest = lowest.clamp(max=0), highest.clamp(min=0)
        weight = torch.where(self.batches == 0, 1.0, self.momentum)
        # A batch that overflowed (in half precision its step is skipped) must not change the average.
        weight = weight * (lowest.isfinite() & highest.isfinite())
        self.low.lerp_(lowest.nan_to_num(0.0, 0.0, 0.0), weight)
        self.high.lerp_(highest.nan_to_num(0.0, 0.0, 0.0), weight)
        self.batches += 1
        scale, zero_point = self._grid(self.low, self.high)
        self.scale.copy_(scale)
        self.zero_point.copy_(zero_point)
        return self._grid(lowest, highest)

    def codes(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantise a tensor.

        Parameters
        ----------
        x : torch.Tensor

        Returns
        -------
        codes : torch.Tensor
            Codes minus the zero point, integers in float32.
        scale : torch.Tensor, ()
        """
        scale, zero_point = self.observe(x) if self.training else (self.scale.float(), self.zero_point)
        lowest = -zero_point.float()
        return _round(x.float() / scale).clamp(lowest, lowest + self.levels), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Quantise a tensor and convert the codes back.

        Parameters
        ----------
        x : torch.Tensor

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        codes, scale = self.codes(x)
        return (codes * scale).to(x.dtype)


class QuantLinear(nn.Linear):
    """Linear layer whose input and weight are quantised to eight bits [1]_.

    The input is quantised with a scale and a zero point (`AffineQuantizer`), the weight with one symmetric
    scale for each output; the bias stays float. The codes are multiplied and summed first, and the sums are
    scaled: sums of integers are exact in any order, precision and batch size, and are the same in the
    `Int8Linear` that the layer is converted to.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.quantizer = AffineQuantizer()

    def weight_codes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the weight's codes (out_features, in_features), whole, and their scales (out_features,)."""
        weight = self.weight.float()
        scale = (weight.detach().abs().amax(1) / _WEIGHT_LEVELS).clamp(min=1e-8)
        return _round(weight / scale[:, None]), scale

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : torch.Tensor, (..., in_features)

        Returns
        -------
        torch.Tensor, (..., out_features), float32
        """
        codes, scale = self.quantizer.codes(x)
        weight, weight_scale = self.weight_codes()
        out = functional.linear(codes, weight * _FRACTION) * (weight_scale * scale / _FRACTION)
        return out if self.bias is None else out + self.bias


class Int8Linear(nn.Module):
    """Linear layer for inference whose weights are stored as int8.

    On the CPU, int8 codes are multiplied and summed in int32. On other devices the codes are multiplied as
    integers in a float format, which gives the same sums.

    Parameters
    ----------
    in_features, out_features : int
    """

    weight: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor
    correction: torch.Tensor
    input_scale: torch.Tensor
    input_zero: torch.Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("scale", torch.ones(out_features))
        self.register_buffer("bias", torch.zeros(out_features))
        self.register_buffer("correction", torch.zeros(out_features, dtype=torch.int32))
        self.register_buffer("input_scale", torch.tensor(1.0))
        self.register_buffer("input_zero", torch.tensor(0.0))

    @classmethod
    @torch.no_grad()
    def of(cls, layer: QuantLinear) -> Int8Linear:
        """Build the integer layer that computes the same as a trained layer in evaluation.

        Parameters
        ----------
        layer : QuantLinear

        Returns
        -------
        Int8Linear

        Raises
        ------
        ModelError
            If the layer has had no data in training, so that the range of its input is not known.
        """
        if int(layer.quantizer.batches) == 0:
            raise ModelError(
                "a quantised layer has no data yet: train the network, or run it on some images in training mode, "
                "before it is converted to int8."
            )
        made = cls(layer.in_features, layer.out_features)
        codes, weight_scale = layer.weight_codes()
        made.weight.copy_(codes)
        made.input_scale.copy_(layer.quantizer.scale)
        made.input_zero.copy_(layer.quantizer.zero_point)
        made.scale.copy_(weight_scale * made.input_scale)
        # int8 codes are the unsigned codes minus 128: this and the zero point add a constant to every sum.
        made.correction.copy_(codes.sum(1) * (made.input_zero - _SIGNED))
        if layer.bias is not None:
            made.bias.copy_(layer.bias)
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : torch.Tensor, (..., in_features)

        Returns
        -------
        torch.Tensor, (..., out_features), float32
        """
        codes = (x.float() / self.input_scale).round_()
        if x.device.type == "cpu":
            codes = codes.add_(self.input_zero - _SIGNED).clamp_(-_SIGNED, _SIGNED - 1).to(torch.int8)
            sums = torch._int_mm(codes.reshape(-1, self.in_features), self.weight.t()).sub_(self.correction)
            out = sums.to(torch.float32).mul_(self.scale).add_(self.bias)
            return out.view(*x.shape[:-1], self.out_features)
        codes = codes.add_(self.input_zero).clamp_(0, 2 * _SIGNED - 1).sub_(self.input_zero)
        out = functional.linear(codes, self.weight * _FRACTION)
        return out * (self.scale / _FRACTION) + self.bias

    def extra_repr(self) -> str:
        """Name the sizes."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


def replace_quantised(net: nn.Module, make: Callable[[QuantLinear], nn.Module]) -> None:
    """Replace every `QuantLinear` within a network.

    Parameters
    ----------
    net : torch.nn.Module
        It is changed.
    make : callable
        From a layer to its replacement.
    """
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, QuantLinear):
                setattr(parent, name, make(child).to(child.weight.device))


def convert(net: nn.Module) -> nn.Module:
    """Copy a network for inference, with its quantised layers converted to int8; the rest stays float.

    Parameters
    ----------
    net : torch.nn.Module
        Trained; it is not changed.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ModelError
        If the network has no quantised layer, or one that has had no data in training.
    """
    made = copy.deepcopy(net).eval()
    if not any(isinstance(part, QuantLinear) for part in made.modules()):
        raise ModelError("this network has no quantised layer: int8 is for qlvit, qlvit_v2 and qlvit_v3.")
    replace_quantised(made, Int8Linear.of)
    return made


def i_exp(x: torch.Tensor) -> torch.Tensor:
    """Approximate exp(x) for x <= 0 by a quadratic polynomial and a shift [2]_.

    With z = floor(-x / ln 2) = -ceil(x / ln 2) and p = x + z ln 2 in (-ln 2, 0], exp(x) = exp(p) / 2^z: the
    polynomial approximates the first factor, and the second is a shift of bits on integer hardware.

    Parameters
    ----------
    x : torch.Tensor, any shape
        At most 0.

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
    """Compute hard(x), with the gradient of soft(x).

    Both are computed in float32. The values are bit for bit those of `hard`, with and without a gradient: a power of
    two must not have a rounding error.

    Parameters
    ----------
    hard, soft : callable
        From a tensor to a tensor of the same shape.
    x : torch.Tensor

    Returns
    -------
    torch.Tensor
        Of the same shape.
    """
    wide = x.float()
    with torch.no_grad():
        value = hard(wide)
    if torch.is_grad_enabled() and x.requires_grad:
        smooth = soft(wide)
        value = value + (smooth - smooth.detach())
    return value.to(x.dtype)


def i_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Softmax along a dimension, with `i_exp` as the exponential [2]_.

    Parameters
    ----------
    x : torch.Tensor
    dim : int

    Returns
    -------
    torch.Tensor
        Of the same shape; sums to one.
    """

    def hard(x: torch.Tensor) -> torch.Tensor:
        powers = i_exp(x - x.amax(dim, keepdim=True))
        return powers / powers.sum(dim, keepdim=True)

    return straight_through(hard, lambda x: torch.softmax(x, dim), x)


def log2_softmax(x: torch.Tensor, dim: int, bits: int = 4) -> torch.Tensor:
    """Softmax along a dimension whose probabilities are quantised to powers of two [3]_.

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
        Same shape, powers of two in (0, 1]; they sum to one approximately.
    """

    def hard(x: torch.Tensor) -> torch.Tensor:
        powers = i_exp(x - x.amax(dim, keepdim=True))
        shares = powers / powers.sum(dim, keepdim=True)
        return torch.exp2(torch.log2(shares).round().clamp(1 - 2**bits, 0))

    return straight_through(hard, lambda x: torch.softmax(x, dim), x)


def i_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Logistic function, with `i_exp` as the exponential.

    Parameters
    ----------
    x : torch.Tensor

    Returns
    -------
    torch.Tensor
        Of the same shape.
    """
    return straight_through(_hard_sigmoid, torch.sigmoid, x)


def _hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    power = i_exp(-x.abs()) * (1 / _ONE)
    # power / (1 + power) is the function at -|x|.
    return 0.5 + torch.sign(x) * (0.5 - power / (1 + power))


class Log2SiLU(nn.Module):
    """x times its logistic function, the latter quantised to a power of two.

    The logistic function of x is the softmax of the pair (x, 0), so this is `log2_softmax` used as the gate
    of an activation: the product is a shift of x by at most 2^bits - 1 bits.

    Parameters
    ----------
    bits : int
    """

    def __init__(self, bits: int = 4) -> None:
        super().__init__()
        self.largest = 2**bits - 1

    def _gate(self, x: torch.Tensor) -> torch.Tensor:
        return torch.exp2(torch.log2(_hard_sigmoid(x)).round().clamp(-self.largest, 0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the activation.

        Parameters
        ----------
        x : torch.Tensor

        Returns
        -------
        torch.Tensor
            Of the same shape.
        """
        return x * straight_through(self._gate, torch.sigmoid, x)

    def extra_repr(self) -> str:
        """Name the bits of the gate."""
        return f"bits={(self.largest + 1).bit_length() - 1}"
