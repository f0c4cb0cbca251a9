"""Mixing kernels as the papers do, but applying them as products of matrices.

A batch of kernels is many times larger than the caches, and a convolution with a group for each
sample is slow where the maps are small. So few samples at a time get their kernels, and each kernel
is a matrix that meets the windows of its sample's input where the mixing left it, without a copy.
"""

import math

from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.products import product, products
from lit_models.kernel_warehouse.recomputation import Form, Gradients
from lit_models.kernel_warehouse.windows import channels_first, windows, windows_gradient


class KernelMixing(Form):
    """A form for ungrouped kernels: every sample's kernel meets the windows of its input.

    Its cells are matrices `(cells, area * c_out)`, output channels inside, so that the pieces of a
    kernel lie one below the other.
    """

    def size(self, x: Tensor, cells: Tensor, geometry: Geometry) -> int:
        """See `Form`: the kernel or the windows."""
        positions = math.prod(geometry.maps(x.shape[2:]))
        return math.prod(geometry.kernel[1:]) * max(geometry.kernel[0], positions)

    def arranged(self, cells: Tensor) -> Tensor:
        """See `Form`."""
        return cells.flatten(2).mT.flatten(1)

    def restored(self, grad: Tensor, cells: Tensor) -> Tensor:
        """See `Form`."""
        return grad.view(len(cells), -1, cells.shape[1]).mT.reshape(cells.shape)

    def mixture(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        kernels = _kernels(_weights(coefficients, geometry) @ cells, geometry)
        return _as_maps(windows(x, geometry).unsqueeze(1) @ kernels, x, geometry)

    def forward(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """See `Form`."""
        kernels = _kernels(product(_weights(coefficients, geometry), cells), geometry)
        return _as_maps(products(windows(x, geometry).unsqueeze(1), kernels), x, geometry)

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
        weights, columns = _weights(coefficients, geometry), windows(x, geometry).unsqueeze(1)
        of_y = grad.reshape(len(x), geometry.groups_out, -1, columns.shape[2]).mT
        of_x = None
        if x_wanted:
            kernels = _kernels(product(weights, cells), geometry)
            of_x = windows_gradient(products(of_y, kernels.mT).sum(1), geometry, x)
        of_pieces = products(columns.mT, of_y).view(len(weights), -1)
        of_cells = product(weights.t(), of_pieces) if cells_wanted else None
        of_weights = product(of_pieces, cells.t())
        return of_x, _weights_gradient(of_weights, coefficients, geometry), of_cells


def _weights(coefficients: Tensor, geometry: Geometry) -> Tensor:
    """Return the coefficients `(N * out * spatial * in, cells)`."""
    spatial, out, into = geometry[-3:]
    cells = coefficients.shape[2]
    return coefficients.reshape(-1, spatial, out, into, cells).transpose(1, 2).reshape(-1, cells)


def _weights_gradient(grad: Tensor, coefficients: Tensor, geometry: Geometry) -> Tensor:
    spatial, out, into = geometry[-3:]
    grad = grad.view(-1, out, spatial, into, grad.shape[1])
    return grad.transpose(1, 2).reshape(coefficients.shape)


def _kernels(pieces: Tensor, geometry: Geometry) -> Tensor:
    """Return the kernels `(N, out, spatial * in * area, c_out)`."""
    rows = math.prod(geometry.kernel[1:])
    return pieces.view(-1, geometry.groups_out, rows, geometry.kernel[0] // geometry.groups_out)


def _as_maps(y: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
    """Return `(N, out, *maps)` for `y: (N, out pieces, positions, c_out)`."""
    y = y.transpose(1, 2).reshape(len(x), *geometry.maps(x.shape[2:]), -1)
    return channels_first(y, like=x)
