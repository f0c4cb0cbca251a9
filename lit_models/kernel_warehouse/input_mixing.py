"""Mixing inputs instead of kernels: no sample has a kernel of its own anywhere.

A kernel is linear in the cells, and its convolution is linear in the input, so the sums change
places: `y = sum_m E_m (sum_{s,i} a[s,i,m] x_{s,i})`, where `E_m` is cell m and `x_{s,i}` the input
piece i shifted to position s of the kernel. What stands in parentheses has the size of the input
for each cell; then one product of two matrices, the same cells for all samples, does the rest.
"""

import math

from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry
from lit_models.kernel_warehouse.recomputation import MatMul
from lit_models.kernel_warehouse.windows import channels_first, windows


def input_mixing(
    x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry, matmul: MatMul
) -> Tensor:
    """Mix the inputs, then apply all cells at once: a `Mixture` for ungrouped kernels.

    Args:
        x: See `Mixture`, like the next three.
        coefficients: See above.
        cells: See above.
        geometry: See above; `groups` must be 1.
        matmul: The product with the cells, `torch.matmul` or one that acts like it.
    """
    batch, maps = x.shape[0], geometry.maps(x.shape[2:])
    num_cells, cell_out = cells.shape[:2]
    mixed = _mixed_inputs(x, coefficients, geometry, num_cells, math.prod(maps))
    y = matmul(mixed, cells.transpose(0, 1).reshape(cell_out, -1).t())
    y = y.view(batch, geometry.groups_out, *maps, cell_out)
    return channels_first(y.movedim(1, -2).flatten(-2), like=x)


def mixed_size(geometry: Geometry, num_cells: int, positions: int) -> int:
    """Return how many numbers one sample's mixed inputs are."""
    per_position = math.prod(geometry.kernel[1:]) // (geometry.groups_spatial * geometry.groups_in)
    return geometry.groups_out * num_cells * positions * per_position


def _mixed_inputs(
    x: Tensor, coefficients: Tensor, geometry: Geometry, num_cells: int, positions: int
) -> Tensor:
    """Return the mixtures `(N * groups_out * positions, cells * cell_area)` of shifted inputs."""
    groups_spatial, groups_out, groups_in = geometry[-3:]
    axes = len(geometry.stride)
    shifted = windows(x, geometry, groups_in)
    # From (sample, *maps, piece, channel, *kernel_size).
    maps, kernel = range(1, axes + 1), range(axes + 3, 2 * axes + 3)
    if groups_spatial > 1:
        shifted = shifted.permute(0, *kernel, axes + 1, *maps, axes + 2)
    else:  # cells are whole kernels
        shifted = shifted.permute(0, axes + 1, *maps, axes + 2, *kernel)
    shifted = shifted.reshape(x.shape[0], groups_spatial * groups_in, -1)
    grid = (groups_spatial, groups_out, groups_in, num_cells)
    weights = coefficients.reshape(-1, *grid).permute(0, 2, 4, 1, 3)
    mixed = weights.reshape(x.shape[0], groups_out * num_cells, -1) @ shifted
    # Each row needs all cells of one position side by side.
    mixed = mixed.view(x.shape[0] * groups_out, num_cells, positions, -1).transpose(1, 2)
    return mixed.reshape(mixed.shape[0] * positions, -1)
