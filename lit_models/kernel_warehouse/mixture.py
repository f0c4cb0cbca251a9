"""From coefficients and cells to an output: the one place where kernels are mixed and applied.

`mix` is what every layer calls. `per_sample_convolution` is the papers' form and the reference for
the others: each sample's kernel, then one grouped convolution with groups = batch.
"""

import math
from collections.abc import Callable
from itertools import product
from types import EllipsisType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_models.kernel_warehouse.cost import FormName, fastest_form
from lit_models.kernel_warehouse.geometry import Geometry, Mixture
from lit_models.kernel_warehouse.input_mixing import InputMixing
from lit_models.kernel_warehouse.kernel_mixing import KernelMixing
from lit_models.kernel_warehouse.products import product_with_gradients
from lit_models.kernel_warehouse.recomputation import Form, recomputed

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def mix(
    x: Tensor,
    coefficients: Tensor,
    cells: Tensor,
    geometry: Geometry,
    form: FormName | Literal["auto"] = "auto",
) -> Tensor:
    """Mix and convolve in one of the forms: a `Mixture`, the same in all up to rounding.

    ONNX convolutions have a fixed number of groups, which would fix the batch size, so an export to
    ONNX gets `shifted_products`. Other exports and the meta device get the papers' form.

    Args:
        x: See `Mixture`, like the next three.
        coefficients: See above.
        cells: See above.
        geometry: See above.
        form: "grouped", the papers'; "kernel", "input"; or "auto" for the fastest.
    """
    if torch.onnx.is_in_onnx_export():
        return shifted_products(x, coefficients, cells, geometry)
    if form == "auto":
        form = "grouped" if torch.compiler.is_exporting() else fastest_form(x, cells, geometry)
    return FORMS[form](x, coefficients, cells, geometry)


def assemble_kernels(
    coefficients: Tensor,
    cells: Tensor,
    geometry: Geometry,
    multiply: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
) -> Tensor:
    """Return each sample's kernel `(N, out, in / groups, *kernel_size)`.

    Section 3.1: every piece of the kernel is a linear mixture of all cells of the warehouse.

    Args:
        coefficients: `(N, mixtures, cells)`.
        cells: `(cells, c_out, c_in, *cell_kernel)`.
        geometry: Where the pieces go.
        multiply: Multiplies two matrices.
    """
    # A product of two matrices, not a batched one: all samples share the cells.
    pieces = multiply(coefficients.flatten(0, 1), cells.flatten(1))
    grid = (geometry.groups_spatial, geometry.groups_out, geometry.groups_in)
    pieces = pieces.view(-1, *grid, *cells.shape[1:])
    # From (sample, spatial, out, in, c_out, c_in, *cell_kernel).
    kernels = pieces.permute(0, 2, 4, 3, 5, 1, *range(6, pieces.ndim))
    return kernels.reshape(-1, *geometry.kernel)


def grouped(x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
    """Apply each sample's kernel as the papers do, 1x1 kernels as matrices: a `Mixture`."""
    kernels = assemble_kernels(coefficients, cells, geometry, product_with_gradients)
    apply = _multiply if geometry.pointwise else _convolve
    return apply(x, kernels, geometry)


def _fast(form: Form) -> Mixture:
    def mixture(x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        if geometry.groups > 1:
            return grouped(x, coefficients, cells, geometry)
        return recomputed(form, x, coefficients, cells, geometry)

    return mixture


FORMS: dict[FormName, Mixture] = {
    "grouped": grouped,
    "kernel": _fast(KernelMixing()),
    "input": _fast(InputMixing()),
}


def per_sample_convolution(
    x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry
) -> Tensor:
    """Convolve every sample with its own kernel as one group of a single convolution: a `Mixture`.

    With one sample this is a plain convolution.
    """
    return _convolve(x, assemble_kernels(coefficients, cells, geometry), geometry)


def _convolve(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    """Apply each sample's kernel as one group of a single convolution."""
    batch = x.shape[0]
    y = _CONVOLUTIONS[x.ndim - 2](
        x.reshape(1, -1, *x.shape[2:]),
        kernels.flatten(0, 1),
        None,
        geometry.stride,
        geometry.padding,
        geometry.dilation,
        batch * geometry.groups,
    )
    return y.view(batch, geometry.kernel[0], *y.shape[2:])


def _multiply(x: Tensor, kernels: Tensor, geometry: Geometry) -> Tensor:
    """Apply each sample's kernel, an ungrouped 1x1, in one batched matrix product."""
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
