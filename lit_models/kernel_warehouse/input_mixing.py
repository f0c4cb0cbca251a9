"""Mixing inputs instead of kernels: no sample has a kernel of its own anywhere.

A kernel is linear in the cells, and its convolution is linear in the input, so the sums change
places: `y = sum_m E_m (sum_{s,i} a[s,i,m] x_{s,i})`, where `E_m` is cell m and `x_{s,i}` the input
piece i shifted to position s of the kernel. What stands in parentheses has the size of the input
for each cell; then one product with a matrix of all cells side by side, the same for all samples,
does the rest.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lit_models.kernel_warehouse.cost import cells_at_a_time, few
from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.products import product
from lit_models.kernel_warehouse.recomputation import Form, Gradients
from lit_models.kernel_warehouse.windows import channels_first, windows, windows_gradient


class InputMixing(Form):
    """A form for ungrouped kernels: the inputs are mixed, then meet all cells."""

    def size(self, x: Tensor, cells: Tensor, geometry: Geometry) -> int:
        """See `Form`: the mixed inputs of a block of cells."""
        positions = math.prod(geometry.maps(x.shape[2:]))
        block = min(len(cells), cells_at_a_time(cells[0].nbytes))
        return block * geometry.groups_out * positions * math.prod(cells.shape[2:])

    def mixture(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        mixed = _mixed(_weights(coefficients, x, geometry), _shifted(x, geometry), cells)
        return _as_maps(torch.einsum("rmq,mcq->rc", mixed, cells.flatten(2)), x, geometry)

    def forward(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        shifted = _shifted(x, geometry)
        y: Tensor | None = None
        rows = len(shifted) * geometry.groups_out
        for some in _blocks(cells, rows):
            weights = _weights(coefficients[..., some], x, geometry)
            term = _applied(_mixed(weights, shifted, cells[some]), cells[some].flatten(2))
            y = term if y is None else y.add_(term)
        assert y is not None
        return _as_maps(y, x, geometry)

    def backward(
        self,
        x: Tensor,
        coefficients: Tensor,
        cells: Tensor,
        geometry: Geometry,
        grad: Tensor,
        x_wanted: bool,
        cells_wanted: bool,
    ) -> Gradients:
        """See `Form`."""
        shifted = _shifted(x, geometry)
        of_y = grad.movedim(1, -1).reshape(-1, cells.shape[1])
        of_shifted = torch.zeros_like(shifted) if x_wanted else None
        of_coefficients = torch.empty_like(coefficients)
        of_cells = torch.empty_like(cells) if cells_wanted else None
        for some in _blocks(cells, len(of_y)):
            weights = _weights(coefficients[..., some], x, geometry)
            if of_cells is not None:
                mixed = _mixed(weights, shifted, cells[some])
                _gradient_of_cells(of_y, mixed, of_cells[some].flatten(2))
            of_mixed = _gradient_of_mixed(of_y, cells[some].flatten(2))
            of_mixed = of_mixed.reshape(len(shifted), -1, shifted.shape[-1])
            if of_shifted is not None:
                of_shifted.baddbmm_(weights.mT, of_mixed)
            of_coefficients[..., some] = _weights_gradient(
                of_mixed @ shifted.mT, coefficients[..., some], geometry
            )
        of_x = None if of_shifted is None else windows_gradient(of_shifted, geometry, x)
        return of_x, of_coefficients, of_cells


def _blocks(cells: Tensor, rows: int) -> Iterator[slice]:
    """Yield the warehouse in blocks of cells: a mixture is the sum of those of its blocks."""
    block = len(cells) if few(rows) else cells_at_a_time(cells[0].nbytes)
    return (slice(first, first + block) for first in range(0, len(cells), block))


def _applied(mixed: Tensor, cells: Tensor) -> Tensor:
    """Return the cells `(cells, c_out, area)` applied to `(rows, cells, area)` and summed."""
    if few(len(mixed)):
        return (mixed.transpose(0, 1) @ cells.mT).sum(0)
    return product(mixed.flatten(1), _side_by_side(cells).t())


def _gradient_of_cells(of_y: Tensor, mixed: Tensor, of_cells: Tensor) -> None:
    """Write the gradient of `_applied` with respect to the cells."""
    if few(len(mixed)):
        of_ys = of_y.t().expand(len(of_cells), -1, -1)
        torch.bmm(of_ys, mixed.transpose(0, 1), out=of_cells)
    else:
        together = product(of_y.t(), mixed.flatten(1)).view(-1, *mixed.shape[1:])
        of_cells.copy_(together.transpose(0, 1))


def _gradient_of_mixed(of_y: Tensor, cells: Tensor) -> Tensor:
    """Return the gradient of `_applied` with respect to the mixed inputs."""
    if few(len(of_y)):
        return (of_y @ cells).transpose(0, 1)
    return product(of_y, _side_by_side(cells)).view(len(of_y), len(cells), -1)


def _side_by_side(cells: Tensor) -> Tensor:
    """Return the cells `(cells, c_out, area)` as one matrix `(c_out, cells * area)`."""
    return cells.transpose(0, 1).flatten(1)


def _weights(coefficients: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return the coefficients `(N * positions, out * cells, spatial * in)`."""
    spatial, out, into = geometry[-3:]
    batch, _, cells = coefficients.shape
    positions = math.prod(geometry.maps(x.shape[2:]))
    weights = coefficients.reshape(batch, spatial, out, into, cells).permute(0, 2, 4, 1, 3)
    weights = weights.reshape(batch, 1, out * cells, spatial * into)
    return weights.expand(-1, positions, -1, -1).flatten(0, 1)


def _weights_gradient(grad: Tensor, coefficients: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of `_weights` with respect to the coefficients."""
    spatial, out, into = geometry[-3:]
    batch, _, cells = coefficients.shape
    grad = grad.view(batch, -1, out, cells, spatial, into).sum(1)
    return grad.permute(0, 3, 1, 4, 2).reshape(coefficients.shape)


def _mixed(weights: Tensor, shifted: Tensor, cells: Tensor) -> Tensor:
    """Return the mixed inputs `(N * positions * out, cells, cell area)`."""
    return (weights @ shifted).view(-1, len(cells), shifted.shape[-1])


def _shifted(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the shifted inputs `(N * positions, spatial * in, cell area)`."""
    pieces = geometry.groups_spatial * geometry.groups_in
    columns = windows(x, geometry)
    return columns.view(columns.shape[0] * columns.shape[1], pieces, -1)


def _as_maps(y: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    y = y.view(len(x), *geometry.maps(x.shape[2:]), geometry.kernel[0])
    return channels_first(y, like=x)
