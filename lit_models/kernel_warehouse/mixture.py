"""From coefficients and cells to an output: the one place where kernels are mixed and applied.

`mix` is what every layer calls. `per_sample_convolution` is the papers' form and the reference for
the others: each sample's kernel, then one grouped convolution with groups = batch.
"""

import math
from collections.abc import Callable
from itertools import product
from types import EllipsisType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Geometry(NamedTuple):
    """What a convolution needs besides its input and its kernel.

    Attributes:
        kernel: `(out, in / groups, *kernel_size)`.
        stride: One number for each spatial axis, as `padding` (with zeros) and `dilation`.
        padding: See `stride`.
        dilation: See `stride`.
        groups: Groups of channels, as in `nn.Conv2d`.
        groups_spatial: Pieces along the spatial axes into which the kernel is cut, row by row.
        groups_out: Pieces along the output channels.
        groups_in: Pieces along the input channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    groups_spatial: int
    groups_out: int
    groups_in: int


Mixture = Callable[[Tensor, Tensor, Tensor, Geometry], Tensor]
"""Input `(N, in, *spatial)`, coefficients `(N, mixtures, cells)`, cells `(cells, c_out, c_in,
*cell_kernel)` and a geometry to the output `(N, out, *spatial)`, without bias. The mixture of
spatial piece s, output piece o and input piece i is `(s * groups_out + o) * groups_in + i`."""

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def mix(x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Choose the form: a `Mixture`, equal to `per_sample_convolution` up to rounding.

    ONNX convolutions have a fixed number of groups, which would fix the batch size, so an export to
    ONNX gets `shifted_products`. The choice never looks at the batch size: one graph serves all.
    """
    if torch.onnx.is_in_onnx_export():
        return shifted_products(x, coefficients, cells, geometry)
    if geometry.groups == 1 and max(geometry.kernel[2:]) == 1 and max(geometry.padding) == 0:
        return pointwise_product(x, coefficients, cells, geometry)
    return per_sample_convolution(x, coefficients, cells, geometry)


def assemble_kernels(coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Return each sample's kernel `(N, out, in / groups, *kernel_size)`.

    Section 3.1: every piece of the kernel is a linear mixture of all cells of the warehouse.

    Args:
        coefficients: `(N, mixtures, cells)`.
        cells: `(cells, c_out, c_in, *cell_kernel)`.
        geometry: Where the pieces go.
    """
    # A product of two matrices, not a batched one: all samples share the cells.
    pieces = coefficients.flatten(0, 1) @ cells.flatten(1)
    grid = (geometry.groups_spatial, geometry.groups_out, geometry.groups_in)
    pieces = pieces.view(-1, *grid, *cells.shape[1:])
    # From (sample, spatial, out, in, c_out, c_in, *cell_kernel).
    kernels = pieces.permute(0, 2, 4, 3, 5, 1, *range(6, pieces.ndim))
    return kernels.reshape(-1, *geometry.kernel)


def per_sample_convolution(
    x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry
) -> Tensor:
    """Convolve every sample with its own kernel as one group of a single convolution: a `Mixture`.

    With one sample this is a plain convolution.
    """
    batch = x.shape[0]
    y = _CONVOLUTIONS[x.ndim - 2](
        x.reshape(1, -1, *x.shape[2:]),
        assemble_kernels(coefficients, cells, geometry).flatten(0, 1),
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        batch * geometry.groups,
    )
    return y.view(batch, geometry.kernel[0], *y.shape[2:])


def pointwise_product(x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Apply 1x1 kernels as one batched matrix product: a `Mixture` for ungrouped 1x1 kernels."""
    kernels = assemble_kernels(coefficients, cells, geometry)
    x = _strided(x, geometry.stride)
    y = kernels.view(-1, *geometry.kernel[:2]) @ x.flatten(2)
    return y.view(*y.shape[:2], *x.shape[2:])


def shifted_products(x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Sum one batched matrix product for each position of the kernel: a `Mixture`.

    No operation in it has an attribute that depends on the batch size, so it suits ONNX.
    """
    groups = geometry.groups
    out_channels, group_in, *size = geometry.kernel
    kernels = assemble_kernels(coefficients, cells, geometry)
    kernels = kernels.view(-1, groups, out_channels // groups, group_in, math.prod(size))
    x = F.pad(x, [pad for pad in reversed(geometry.padding) for _ in range(2)])
    reach = [dilation * (k - 1) for dilation, k in zip(geometry.dilation, size, strict=True)]
    total: Tensor | None = None
    for index, position in enumerate(product(*map(range, size))):
        window = x
        for axis, k in enumerate(position):
            start = k * geometry.dilation[axis]
            window = window.narrow(axis + 2, start, x.shape[axis + 2] - reach[axis])
        window = _strided(window, geometry.stride)
        maps = window.shape[2:]
        window = window.reshape(-1, groups, group_in, maps.numel())
        term = kernels[..., index] @ window
        total = term if total is None else total + term
    assert total is not None
    return total.reshape(-1, out_channels, *maps)


def _strided(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Return every stride-th pixel of `x: (N, C, *spatial)`."""
    if max(stride) == 1:
        return x
    index: tuple[EllipsisType | slice, ...] = (..., *(slice(None, None, step) for step in stride))
    return x[index]
