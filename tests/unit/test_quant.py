"""Eight-bit layers and activations from powers of two: what they compute, how they learn, and int8 itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from napari_leukocls.architectures.papers.qlvit.quantisation import (  # noqa: E402
    AffineQuantizer,
    Int8Linear,
    Log2SiLU,
    QuantLinear,
    convert,
    i_exp,
    i_sigmoid,
    i_softmax,
    log2_softmax,
)
from napari_leukocls.errors import ModelError  # noqa: E402

FLOAT_PRODUCTS = {"aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::matmul", "aten::linear"}


def trained(layer: nn.Module, *shape: int) -> nn.Module:
    """Let a layer see some data, so that it knows its input's range."""
    with torch.no_grad():
        layer.train()(torch.randn(*shape))
    return layer.eval()


def test_polynomial_exponential() -> None:
    x = torch.linspace(-30, 0, 20001)
    assert (i_exp(x) - x.exp()).abs().max() < 2.2e-3
    assert i_exp(torch.tensor(-1e4)) == 0


def test_softmax_and_sigmoid_of_the_polynomial() -> None:
    x = 3 * torch.randn(50, 30)
    torch.testing.assert_close(i_softmax(x, -1), x.softmax(-1), atol=3e-3, rtol=0)
    torch.testing.assert_close(i_softmax(x, -1).sum(-1), torch.ones(50))
    torch.testing.assert_close(i_sigmoid(x), x.sigmoid(), atol=2e-3, rtol=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40), st.integers(2, 5))
def test_log2_softmax_gives_the_nearest_power_of_two(values: list[float], bits: int) -> None:
    x = torch.tensor(values)
    ours = log2_softmax(x, 0, bits)
    codes = -torch.log2(ours)
    assert torch.equal(codes, codes.round())
    assert codes.min() >= 0 and codes.max() <= 2**bits - 1
    exact = -torch.log2(x.double().softmax(0))
    # Half a step, and what the polynomial is off.
    assert (codes - exact.clamp(max=2**bits - 1)).abs().max() <= 0.51


def test_log2_silu_shifts() -> None:
    x = torch.linspace(-8, 8, 999)
    gate = Log2SiLU()(x)[x != 0] / x[x != 0]
    codes = -torch.log2(gate)
    torch.testing.assert_close(codes, codes.round(), atol=1e-5, rtol=0)
    assert (Log2SiLU()(x) - nn.functional.silu(x)).abs().max() < 0.3


@pytest.mark.parametrize(
    ("quantised", "smooth"),
    [
        (lambda x: log2_softmax(x, -1), lambda x: x.softmax(-1)),
        (lambda x: i_softmax(x, -1), lambda x: x.softmax(-1)),
        (i_sigmoid, torch.sigmoid),
    ],
)
def test_gradients_are_those_of_the_smooth_function(quantised, smooth) -> None:
    x = torch.randn(4, 9)
    weight = torch.randn(4, 9)
    slopes = []
    for function in (quantised, smooth):
        leaf = x.clone().requires_grad_()
        (function(leaf) * weight).sum().backward()
        slopes.append(leaf.grad)
    torch.testing.assert_close(slopes[0], slopes[1])
    # The value does not depend on whether a gradient is wanted.
    assert torch.equal(quantised(x), quantised(x.clone().requires_grad_()).detach())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50), st.integers(2, 8))
def test_affine_quantiser_is_within_half_a_step(values: list[float], bits: int) -> None:
    x = torch.tensor(values)
    quantizer = AffineQuantizer(bits)
    out = quantizer(x)
    low, high = min(0.0, min(values)), max(0.0, max(values))
    step = max((high - low) / (2**bits - 1), 1e-8)
    assert (out - x).abs().max() <= step * 1.001 + 1e-6 * (high - low)
    assert len(out.unique()) <= 2**bits
    assert quantizer(torch.zeros(3)).abs().max() == 0


def test_affine_quantiser_evaluates_with_the_range_it_has_seen() -> None:
    torch.manual_seed(0)
    quantizer = AffineQuantizer()
    for _ in range(50):
        quantizer(torch.empty(1000).uniform_(-1, 3))
    quantizer.eval()
    assert quantizer.scale.item() == pytest.approx(4 / 255, rel=0.01)
    assert quantizer.zero_point.item() == 64
    x = torch.tensor([-5.0, 0.0, 1.0, 9.0], requires_grad=True)
    out = quantizer(x)
    np.testing.assert_allclose(out.detach(), [-1, 0, 1, 3], atol=0.03)
    out.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]


def test_a_batch_that_overflowed_does_not_spoil_the_range() -> None:
    quantizer = AffineQuantizer()
    quantizer(torch.tensor([-1.0, 1.0]))
    quantizer(torch.tensor([float("nan"), float("inf")]))
    assert (quantizer.low.item(), quantizer.high.item()) == (-1, 1)


def test_quantised_layer_learns() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 20)
    wanted = x @ torch.randn(20, 3)
    layer = QuantLinear(20, 3)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss = (layer(x) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 1e-3 * wanted.var()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (2, 3, 7, 24)])
def test_int8_computes_what_training_saw(bias: bool, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = trained(QuantLinear(24, 10, bias=bias), 200, 24)
    x = torch.randn(*shape)
    with torch.no_grad():
        simulated, integer = layer(x), Int8Linear.of(layer)(x)
        exact = nn.functional.linear(x, layer.weight, layer.bias)
    # Bit for bit: both are sums of whole numbers.
    assert torch.equal(integer, simulated)
    assert (integer - exact).abs().max() < 0.03 * exact.abs().max()


def test_int8_stores_int8_and_multiplies_no_floats() -> None:
    torch.manual_seed(0)
    net = convert(trained(nn.Sequential(QuantLinear(64, 96), nn.ReLU(), QuantLinear(96, 8)), 32, 64))
    layers = [part for part in net.modules() if isinstance(part, Int8Linear)]
    assert [layer.weight.dtype for layer in layers] == [torch.int8, torch.int8]
    assert not list(net.parameters())
    with torch.no_grad(), torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        net(torch.randn(4, 64))
    ran = {event.key for event in profile.key_averages()}
    assert "aten::_int_mm" in ran
    assert not ran & FLOAT_PRODUCTS


def test_conversion_leaves_the_trained_network_alone() -> None:
    net = trained(nn.Sequential(QuantLinear(8, 4)), 10, 8)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    convert(net)
    assert isinstance(net[0], QuantLinear)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_conversion_wants_a_trained_and_quantised_network() -> None:
    with pytest.raises(ModelError, match="has no data yet"):
        convert(nn.Sequential(QuantLinear(8, 4)))
    with pytest.raises(ModelError, match="no quantised layer"):
        convert(nn.Sequential(nn.Linear(8, 4)))
