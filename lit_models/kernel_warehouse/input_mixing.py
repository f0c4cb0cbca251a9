"""Mixing inputs instead of kernels: no sample has a kernel of its own anywhere.

A kernel is linear in the cells, and its convolution is linear in the input, so the sums change
places: `y = sum_m E_m (sum_{s,i} a[s,i,m] x_{s,i})`, where `E_m` is cell m and `x_{s,i}` the input
piece i shifted to position s of the kernel. What stands in parentheses has the size of the input
for each cell; then one product of two matrices for each cell, the same for all samples, does the
rest.
"""

import math

import torch
from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.products import accumulate, product
from lit_models.kernel_warehouse.recomputation import Form, Gradients
from lit_models.kernel_warehouse.windows import channels_first, windows, windows_gradient


class InputMixing(Form):
    """A form for ungrouped kernels: the inputs are mixed, then meet all cells."""

    def size(self, x: Tensor, cells: Tensor, geometry: Geometry) -> int:
        """See `Form`: the mixed inputs."""
        positions = math.prod(geometry.maps(x.shape[2:]))
        return len(cells) * geometry.groups_out * positions * math.prod(cells.shape[2:])

    def mixture(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        mixed = _mixed(_weights(coefficients, x, geometry), _shifted(x, geometry), cells)
        return _as_maps(torch.einsum("rmq,mcq->rc", mixed, cells.flatten(2)), x, geometry)

    def forward(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        mixed = _mixed(_weights(coefficients, x, geometry), _shifted(x, geometry), cells)
        y = mixed.new_zeros(len(mixed), cells.shape[1])
        for m, cell in enumerate(cells.flatten(2)):
            accumulate(y, mixed[:, m], cell.t())
        return _as_maps(y, x, geometry)

    def backward(
        self,
        x: Tensor,
        coefficients: Tensor,
        cells: Tensor,
        geometry: Geometry,
        grad: Tensor,
        of_cells: Tensor | None,
        x_wanted: bool,
    ) -> Gradients:
        """See `Form`."""
        weights, shifted = _weights(coefficients, x, geometry), _shifted(x, geometry)
        of_y = grad.movedim(1, -1).reshape(-1, cells.shape[1])
        if of_cells is not None:
            mixed = _mixed(weights, shifted, cells)
            for m, of_cell in enumerate(of_cells.flatten(2)):
                accumulate(of_cell, of_y.t(), mixed[:, m])
            del mixed
        of_mixed = of_y.new_empty(len(of_y), *cells.flatten(2).shape[::2])
        for m, cell in enumerate(cells.flatten(2)):
            of_mixed[:, m] = product(of_y, cell)
        of_mixed = of_mixed.view(len(weights), -1, of_mixed.shape[-1])
        of_x = None
        if x_wanted:
            of_x = _shifted_gradient(weights.mT @ of_mixed, x, geometry)
        return of_x, _weights_gradient(of_mixed @ shifted.mT, coefficients, geometry)


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
    spatial, _, into = geometry[-3:]
    shifted = windows(x, geometry, _axis(geometry))
    return shifted.view(len(x) * math.prod(geometry.maps(x.shape[2:])), spatial * into, -1)


def _shifted_gradient(grad: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return the gradient of `_shifted` with respect to `x`."""
    spatial, channels = geometry.groups_spatial, x.shape[1]
    last = (spatial, channels) if spatial > 1 else (channels, math.prod(geometry.kernel[2:]))
    grad = grad.reshape(len(x), *geometry.maps(x.shape[2:]), *last)
    return windows_gradient(grad, geometry, _axis(geometry), x)


def _axis(geometry: Geometry) -> int:
    """Return where the kernel's positions go: whole kernels have them last, like cells."""
    return len(geometry.stride) + 1 if geometry.groups_spatial > 1 else -1


def _as_maps(y: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    y = y.view(len(x), *geometry.maps(x.shape[2:]), geometry.kernel[0])
    return channels_first(y, like=x)
