"""Kolmogorov-Arnold layers: a learnable curve of B-splines on every edge.

References
----------
Liu et al. (2024), KAN: Kolmogorov-Arnold networks, arXiv:2404.19756.
de Boor (1978), A practical guide to splines, Springer.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from napari_leukocls.errors import ArgumentError


def _pieces(order: int) -> torch.Tensor:
    """Return the polynomials of the order + 1 B-splines that are not zero in a cell of an even grid.

    Returns
    -------
    torch.Tensor, (order + 1, order + 1), float64
        Coefficient of each power of t, the position in the cell from 0 to 1, in each B-spline, leftmost first.
    """
    pieces = torch.ones(1, 1, dtype=torch.float64)
    for degree in range(1, order + 1):
        raised = torch.zeros(degree + 1, degree + 1, dtype=torch.float64)
        for i in range(degree):
            # The recursion of Cox and de Boor: this piece contributes to two pieces of the next degree.
            piece = pieces[:, i]
            raised[:-1, i] += (i + 1) * piece / degree
            raised[1:, i] -= piece / degree
            raised[:-1, i + 1] += (degree - i - 1) * piece / degree
            raised[1:, i + 1] += piece / degree
        pieces = raised
    return pieces


def _polynomials(t: torch.Tensor, pieces: torch.Tensor) -> torch.Tensor:
    """Evaluate polynomials (powers, P) at t (...): (..., P)."""
    t = t[..., None]
    value = pieces[-1].expand(*t.shape[:-1], -1)
    for coefficients in reversed(pieces[:-1].unbind()):
        value = value * t + coefficients
    return value


def _cells(
    x: torch.Tensor, pieces: torch.Tensor, span: tuple[float, float], cells: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers (..., P) of the basis functions that are not zero at x, and the position of x in its cell (0 to 1)."""
    low, high = span
    along = ((x - low) * (cells / (high - low))).clamp(0, cells)
    cell = along.floor().clamp(max=cells - 1)
    return cell.long()[..., None] + torch.arange(pieces.shape[1], device=x.device), along - cell


def _dense(x: torch.Tensor, pieces: torch.Tensor, span: tuple[float, float], cells: int) -> torch.Tensor:
    index, t = _cells(x, pieces, span, cells)
    basis = x.new_zeros(*x.shape, cells + pieces.shape[1] - 1)
    return basis.scatter(-1, index, _polynomials(t, pieces))


class _Basis(torch.autograd.Function):
    """The basis with its derivative in closed form, so that only x is stored for the backward pass."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        pieces: torch.Tensor,
        span: tuple[float, float],
        cells: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, pieces)
        ctx.grid = (span, cells)  # type: ignore[attr-defined]
        return _dense(x, pieces, span, cells)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, ...]:
        x, pieces = ctx.saved_tensors  # type: ignore[attr-defined]
        (low, high), cells = ctx.grid  # type: ignore[attr-defined]
        index, t = _cells(x, pieces, (low, high), cells)
        powers = torch.arange(1, len(pieces), device=x.device, dtype=x.dtype)
        slopes = _polynomials(t, pieces[1:] * powers[:, None]) * (cells / (high - low))
        slope = (grads[0].gather(-1, index) * slopes).sum(-1)
        return slope * ((x >= low) & (x <= high)), None, None, None


def _basis(x: torch.Tensor, pieces: torch.Tensor, span: tuple[float, float], cells: int) -> torch.Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        basis: torch.Tensor = _Basis.apply(x, pieces, span, cells)
        return basis
    return _dense(x, pieces, span, cells)


def bspline_basis(x: torch.Tensor, span: tuple[float, float], cells: int, order: int = 3) -> torch.Tensor:
    """Evaluate every B-spline of an evenly spaced grid.

    The knots are `span` cut into `cells` intervals, and `order` more of the same width on either side, so
    that the basis functions sum to one everywhere in the span. Outside they keep their values at its ends.

    Parameters
    ----------
    x : torch.Tensor, any shape
    span : (float, float)
        Ends of the grid.
    cells : int
        Intervals between them.
    order : int
        Degree of the pieces, from 1; 3 is cubic.

    Returns
    -------
    torch.Tensor, (..., cells + order)
    """
    return _basis(x, _pieces(order).to(x), span, cells)


class KANLinear(nn.Module):
    """Layer with a learnable curve on each edge from an input to an output.

    Output j is the sum over inputs i of base[j, i] silu(x_i) + sum_s spline[j, i, s] B_s(x_i).

    All edges are evaluated at once: the basis of every input, then one product with the coefficients.

    Parameters
    ----------
    in_features, out_features : int
        Multiples of `groups`.
    groups : int
        Edges connect only inputs and outputs of the same group, as in a grouped convolution, which divides the
        number of coefficients by `groups`.
    cells, order : int
        Intervals of the grid, and degree of the splines.
    span : (float, float)
        Ends of the grid. The default suits inputs that come from a normalisation.

    Raises
    ------
    ArgumentError
        If the widths are not multiples of the groups.
    """

    pieces: torch.Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int = 1,
        cells: int = 5,
        order: int = 3,
        span: tuple[float, float] = (-3.0, 3.0),
    ) -> None:
        super().__init__()
        if in_features % groups or out_features % groups:
            raise ArgumentError(
                f"a KAN layer of {in_features} to {out_features} channels cannot have {groups} groups: "
                "choose widths that are multiples of kan_groups."
            )
        self.groups, self.cells, self.order, self.span = groups, cells, order, span
        self.register_buffer("pieces", _pieces(order).float(), persistent=False)
        inputs, outputs = in_features // groups, out_features // groups
        self.base = nn.Parameter(torch.empty(groups, inputs, outputs))
        self.spline = nn.Parameter(torch.empty(groups, inputs * (cells + order), outputs))
        nn.init.uniform_(self.base, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        nn.init.normal_(self.spline, std=0.1 / math.sqrt(inputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer.

        Parameters
        ----------
        x : torch.Tensor, (..., in_features)

        Returns
        -------
        torch.Tensor, (..., out_features)
        """
        # (groups, rows, inputs of a group)
        rows = x.float().reshape(-1, self.groups, x.shape[-1] // self.groups).transpose(0, 1)
        basis = _basis(rows, self.pieces, self.span, self.cells).flatten(2)
        out = torch.baddbmm(torch.bmm(basis, self.spline), nn.functional.silu(rows), self.base)
        return out.transpose(0, 1).reshape(*x.shape[:-1], -1)

    def extra_repr(self) -> str:
        """Name the grid and the groups."""
        return f"groups={self.groups}, cells={self.cells}, order={self.order}, span={self.span}"
