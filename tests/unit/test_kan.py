"""KAN layers: the splines are those of scipy, whatever the grid, and all edges are summed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

torch = pytest.importorskip("torch")

from napari_leukocls.architectures.papers.qlvit.kan import KANLinear, bspline_basis  # noqa: E402
from napari_leukocls.errors import ArgumentError  # noqa: E402


def knots(span: tuple[float, float], cells: int, order: int) -> np.ndarray:
    width = (span[1] - span[0]) / cells
    return span[0] + width * np.arange(-order, cells + order + 1)


def scipy_basis(x: np.ndarray, span: tuple[float, float], cells: int, order: int) -> np.ndarray:
    one_each = np.eye(cells + order)
    return BSpline(knots(span, cells, order), one_each, order)(x)


@settings(max_examples=60, deadline=None)
@given(
    low=st.floats(-20, 20),
    width=st.floats(0.5, 40),
    cells=st.integers(1, 12),
    order=st.integers(1, 5),
    at=st.lists(st.floats(0, 1), min_size=1, max_size=30),
)
def test_basis_is_scipys(low: float, width: float, cells: int, order: int, at: list[float]) -> None:
    span = (low, low + width)
    x = torch.tensor([low + width * share for share in at], dtype=torch.float64)
    ours = bspline_basis(x, span, cells, order).numpy()
    theirs = scipy_basis(x.clamp(*span).numpy(), span, cells, order)
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_basis_in_float32_is_scipys_to_1e_5() -> None:
    x = torch.linspace(-3, 3, 4001)
    ours = bspline_basis(x, (-3.0, 3.0), 5)
    assert ours.dtype == torch.float32
    assert np.abs(ours.numpy() - scipy_basis(x.double().numpy(), (-3.0, 3.0), 5, 3)).max() < 1e-5


def test_basis_sums_to_one_and_stays_beyond_the_span() -> None:
    x = torch.linspace(-9, 9, 200)
    basis = bspline_basis(x, (-3.0, 3.0), 7, 2)
    torch.testing.assert_close(basis.sum(-1), torch.ones(200))
    ends = bspline_basis(torch.tensor([-3.0, 3.0]), (-3.0, 3.0), 7, 2)
    torch.testing.assert_close(basis[x < -3], ends[:1].expand(int((x < -3).sum()), -1))
    torch.testing.assert_close(basis[x > 3], ends[1:].expand(int((x > 3).sum()), -1))


@pytest.mark.parametrize("order", [2, 3, 4])
def test_gradient_is_scipys_derivative(order: int) -> None:
    span, cells = (-1.0, 2.0), 6
    coefficients = np.random.default_rng(0).normal(size=cells + order)
    spline = BSpline(knots(span, cells, order), coefficients, order)
    x = torch.linspace(-0.99, 1.99, 101, dtype=torch.float64, requires_grad=True)
    (bspline_basis(x, span, cells, order) @ torch.from_numpy(coefficients)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), spline.derivative()(x.detach().numpy()), atol=1e-9)


def test_gradient_by_differences() -> None:
    x = torch.empty(3, 4, dtype=torch.float64).uniform_(-2.9, 2.9).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bspline_basis(x, (-3.0, 3.0), 5), (x,))


def test_beyond_the_span_there_is_no_slope() -> None:
    x = torch.tensor([-5.0, 4.0], requires_grad=True)
    (bspline_basis(x, (-3.0, 3.0), 5) * torch.arange(8.0)).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("groups", "cells", "order"), [(1, 5, 3), (2, 4, 2)])
def test_layer_is_the_sum_of_its_edges(groups: int, cells: int, order: int) -> None:
    torch.manual_seed(0)
    layer = KANLinear(6, 4, groups=groups, cells=cells, order=order, span=(-2.0, 2.0))
    x = torch.empty(2, 5, 6).uniform_(-2, 2)
    with torch.no_grad():
        ours = layer(x)
    inputs, outputs = 6 // groups, 4 // groups
    spline = layer.spline.detach().double().view(groups, inputs, cells + order, outputs).numpy()
    expected = np.zeros((2, 5, 4))
    for group in range(groups):
        for i in range(inputs):
            value = x[..., group * inputs + i].double().numpy()
            for j in range(outputs):
                curve = BSpline(knots((-2.0, 2.0), cells, order), spline[group, i, :, j], order)
                base = float(layer.base[group, i, j].detach())
                expected[..., group * outputs + j] += curve(value) + base * value / (1 + np.exp(-value))
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-5)


def test_layer_gives_the_same_with_and_without_gradients() -> None:
    torch.manual_seed(0)
    layer = KANLinear(8, 8, groups=2)
    x = torch.randn(7, 8)
    with torch.no_grad():
        without = layer(x)
    torch.testing.assert_close(layer(x.requires_grad_()).detach(), without, rtol=0, atol=0)


def test_learns_a_product() -> None:
    """Two layers of curves learn x y, which no sum of curves of x and y is."""
    torch.manual_seed(0)
    x = torch.empty(512, 2).uniform_(-2, 2)
    wanted = x.prod(1, keepdim=True)
    net = torch.nn.Sequential(KANLinear(2, 4), KANLinear(4, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(400):
        optimiser.zero_grad()
        loss = (net(x) - wanted).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 0.01 * wanted.var()


def test_widths_that_do_not_fit_the_groups() -> None:
    with pytest.raises(ArgumentError, match="multiples of kan_groups"):
        KANLinear(10, 8, groups=4)
