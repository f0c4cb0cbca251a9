"""Mixing kernels as the papers do, but applying them as products of matrices.

A batch of kernels is many times larger than the caches, and a convolution with a group for each
sample is slow where the maps are small. So few samples at a time get their kernels, and every piece
of a kernel is a matrix that meets its part of the input where the mixing left it, without a copy.
"""

import math

import torch
from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.products import product
from lit_models.kernel_warehouse.recomputation import Form, Gradients
from lit_models.kernel_warehouse.windows import channels_first, windows, windows_gradient


class KernelMixing(Form):
    """A form for ungrouped kernels: every sample's kernel meets the windows of its input."""

    def size(self, x: Tensor, cells: Tensor, geometry: Geometry) -> int:
        """See `Form`: the kernel or the windows."""
        positions = math.prod(geometry.maps(x.shape[2:]))
        return math.prod(geometry.kernel[1:]) * max(geometry.kernel[0], positions)

    def mixture(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        kernels = _kernels(_weights(coefficients, geometry) @ cells.flatten(1), cells, geometry)
        y = torch.einsum("nkoq,nkpq->npo", kernels, _columns(x, geometry))
        return _as_maps(y, x, geometry)

    def forward(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        pieces = product(_weights(coefficients, geometry), cells.flatten(1))
        kernels = _kernels(pieces, cells, geometry)
        columns = _columns(x, geometry)
        y = columns.new_zeros(len(x), columns.shape[2], kernels.shape[2])
        for k in range(columns.shape[1]):
            y.baddbmm_(columns[:, k], kernels[:, k].mT)
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
        weights, columns = _weights(coefficients, geometry), _columns(x, geometry)
        of_y = grad.flatten(2).unsqueeze(1)  # (sample, 1, channel, position)
        of_x = None
        if x_wanted:
            kernels = _kernels(product(weights, cells.flatten(1)), cells, geometry)
            of_columns = of_y.mT @ kernels
            of_x = _columns_gradient(of_columns, x, geometry)
        of_pieces = (of_y @ columns).view(len(weights), -1)
        of_cells = product(weights.t(), of_pieces).view_as(cells) if cells_wanted else None
        of_weights = product(of_pieces, cells.flatten(1).t())
        return of_x, _weights_gradient(of_weights, coefficients, geometry), of_cells


def _weights(coefficients: Tensor, geometry: Geometry) -> Tensor:
    """Return the coefficients `(N * spatial * in * out, cells)`."""
    spatial, out, into = geometry[-3:]
    cells = coefficients.shape[2]
    return coefficients.reshape(-1, spatial, out, into, cells).transpose(2, 3).reshape(-1, cells)


def _weights_gradient(grad: Tensor, coefficients: Tensor, geometry: Geometry) -> Tensor:
    spatial, out, into = geometry[-3:]
    grad = grad.view(-1, spatial, into, out, grad.shape[1])
    return grad.transpose(2, 3).reshape(coefficients.shape)


def _kernels(pieces: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Return the kernels `(N, spatial * in, out channels, cell area)`: for each piece a matrix."""
    area = math.prod(cells.shape[2:])
    return pieces.view(-1, geometry.groups_spatial * geometry.groups_in, geometry.kernel[0], area)


def _columns(x: Tensor, geometry: Geometry) -> Tensor:
    """Return the windows that the pieces meet `(N, spatial * in, positions, cell area)`."""
    spatial, _, into = geometry[-3:]
    positions = math.prod(geometry.maps(x.shape[2:]))
    columns = windows(x, geometry, 1 if spatial > 1 else -1)  # one position: whole kernels
    columns = columns.view(len(x), spatial, positions, into, -1).transpose(2, 3)
    return columns.reshape(len(x), spatial * into, positions, -1)


def _columns_gradient(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of `_columns` with respect to `x`."""
    (spatial, _, into), maps = geometry[-3:], geometry.maps(x.shape[2:])
    grad = grad.view(len(x), spatial, into, *grad.shape[2:]).transpose(2, 3)
    if spatial > 1:
        return windows_gradient(grad.reshape(len(x), spatial, *maps, -1), geometry, 1, x)
    grad = grad.reshape(len(x), *maps, x.shape[1], -1)
    return windows_gradient(grad, geometry, -1, x)


def _as_maps(y: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    return channels_first(y.view(len(x), *geometry.maps(x.shape[2:]), -1), like=x)
