"""Mixing kernels as the papers do, but applying them as products of matrices.

A batch of kernels is many times larger than the caches, and a convolution with a group for each
sample is slow where the maps are small. So few samples at a time get their kernels, each as one
matrix, and meet the windows of their inputs in one batched product.
"""

import math

from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.recomputation import MatMul
from lit_models.kernel_warehouse.windows import channels_first, windows


def kernel_mixing(
    x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry, matmul: MatMul
) -> Tensor:
    """Multiply the windows of every sample's input with its kernel: a `Mixture`.

    Args:
        x: See `Mixture`, like the next three.
        coefficients: See above.
        cells: See above.
        geometry: See above.
        matmul: The products with the kernels, `torch.matmul` or one that acts like it.
    """
    batch, maps, groups = x.shape[0], geometry.maps(x.shape[2:]), geometry.groups
    axes = len(maps)
    views = windows(x, geometry, groups, geometry.groups_in)
    # From (sample, *maps, group, piece, channel, *kernel_size).
    kernel = range(axes + 4, 2 * axes + 4)
    channels = (axes + 2, axes + 3)
    row = (*kernel, *channels) if geometry.groups_spatial > 1 else (*channels, *kernel)
    columns = views.permute(0, axes + 1, *range(1, axes + 1), *row)
    columns = columns.reshape(batch, groups, -1, math.prod(geometry.kernel[1:]))
    y = matmul(columns, _kernel_matrices(coefficients, cells, geometry).transpose(2, 3))
    y = y.transpose(1, 2).reshape(batch, *maps, geometry.kernel[0])
    return channels_first(y, like=x)


def _kernel_matrices(coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Return every sample's kernel as matrices `(N, groups, out / groups, in * area / groups)`."""
    # A product of two matrices, not a batched one: all samples share the cells.
    pieces = coefficients.flatten(0, 1) @ cells.flatten(1)
    grid = (geometry.groups_spatial, geometry.groups_out, geometry.groups_in)
    pieces = pieces.view(-1, *grid, cells.shape[1], cells.flatten(2).shape[2])
    # From (sample, spatial, out, in, c_out, cell_area).
    rows = pieces.permute(0, 2, 4, 1, 3, 5)
    out = geometry.kernel[0] // geometry.groups
    return rows.reshape(-1, geometry.groups, out, math.prod(geometry.kernel[1:]))
