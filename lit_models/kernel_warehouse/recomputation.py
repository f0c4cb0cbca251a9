"""Computing a mixture for few samples at a time and keeping only what goes into it.

What a form makes on its way (mixed inputs, kernels, windows) is many times larger than what goes in
and what comes out. So nothing of it is kept: the backward pass makes it again, all but the output.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from lit_models.kernel_warehouse.attention import full_precision
from lit_models.kernel_warehouse.cost import samples_at_a_time
from lit_models.kernel_warehouse.geometry import Geometry

Gradients = tuple[Tensor | None, Tensor, Tensor | None]
"""Of input, coefficients and cells, None where it is not wanted."""


class Form(Protocol):
    """A `Mixture` of tensors of one type, with its gradients written out.

    Its methods get the cells as `arranged` returns them, or as they are if it doesn't say.
    """

    def size(self, x: Tensor, cells: Tensor, geometry: Geometry) -> int:
        """Return how many numbers the largest intermediate of one sample is; cells as they are."""

    def arranged(self, cells: Tensor) -> Tensor:
        """Return the cells in the order in which the other methods get them."""
        return cells

    def restored(self, grad: Tensor, cells: Tensor) -> Tensor:
        """Return a gradient of the arranged cells as one of the cells."""
        return grad

    def mixture(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """Return the output: in few operations, which have gradients."""

    def forward(self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry) -> Tensor:
        """Return the output: in place as far as possible."""

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
        """Return the gradients.

        Args:
            x: See `Mixture`, like the next three.
            coefficients: See above.
            cells: See above.
            geometry: See above.
            grad: The gradient of the output.
            x_wanted: Whether the input's gradient is.
            cells_wanted: Whether the gradient of the cells is.
        """


def recomputed(
    form: Form,
    x: Tensor,
    coefficients: Tensor,
    cells: Tensor,
    geometry: Geometry,
    samples: int | None = None,
) -> Tensor:
    """Return what a form computes, few samples at a time; only its arguments are kept.

    Under autocast it computes in autocast's type. Compilers, exporters and function transforms see
    the form itself, the whole batch at once: they plan memory on their own.

    Args:
        form: Which.
        x: See `Mixture`, like the next three.
        coefficients: See above.
        cells: See above.
        geometry: See above.
        samples: How many at a time; None for as many as the caches like.
    """
    dtype = _computing_type(x, cells)
    if is_traced():
        matrices = form.arranged(cells.to(dtype))
        return form.mixture(x.to(dtype), coefficients.to(dtype), matrices, geometry)
    if samples is None:
        samples = samples_at_a_time(form.size(x, cells, geometry) * dtype.itemsize)
    y: Tensor = _Recomputed.apply(x, coefficients, cells, form, geometry, dtype, samples)
    return y


def _computing_type(x: Tensor, cells: Tensor) -> torch.dtype:
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return cells.dtype


def is_traced() -> bool:
    """Whether a compiler, an exporter or a transform of functions is looking."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


class _Recomputed(torch.autograd.Function):
    """A form in chunks of samples."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        cells: Tensor,
        form: Form,
        geometry: Geometry,
        dtype: torch.dtype,
        samples: int,
    ) -> Tensor:
        ctx.save_for_backward(x, coefficients, cells)
        ctx.form, ctx.geometry, ctx.dtype, ctx.samples = form, geometry, dtype, samples
        matrices = form.arranged(cells.to(dtype))
        with full_precision(x.device.type):
            parts = [
                form.forward(inputs.to(dtype), weights.to(dtype), matrices, geometry)
                for inputs, weights in _chunks(samples, x, coefficients)
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        with full_precision(grads[0].device.type):
            if torch.is_grad_enabled():  # somebody wants gradients of these gradients
                found = _differentiable_gradients(ctx, grads[0])
            else:
                found = _in_chunks(ctx, grads[0])
        return *found, None, None, None, None


def _differentiable_gradients(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    # Views: one of the arguments may have been made of another, which is not of this function.
    given = [tensor.view_as(tensor) for tensor in ctx.saved_tensors]
    x, coefficients, cells = (tensor.to(ctx.dtype) for tensor in given)
    y = ctx.form.mixture(x, coefficients, ctx.form.arranged(cells), ctx.geometry)
    wanted = ctx.needs_input_grad[:3]
    chosen = [tensor for tensor, want in zip(given, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(y, chosen, grad, create_graph=True))
    return [next(found) if want else None for want in wanted]


def _in_chunks(ctx: Any, grad: Tensor) -> list[Tensor | None]:
    """Return the gradients of input, coefficients and cells, as far as they are wanted."""
    x, coefficients, cells = ctx.saved_tensors
    x_wanted, _, cells_wanted = ctx.needs_input_grad[:3]
    dtype, matrices = ctx.dtype, ctx.form.arranged(cells.to(ctx.dtype))
    of_inputs, of_weights = [], []
    of_cells: Tensor | None = None
    for chunk in _chunks(ctx.samples, x, coefficients, grad):
        inputs, weights, part_grad = (tensor.to(dtype) for tensor in chunk)
        of_x, of_coefficients, part = ctx.form.backward(
            inputs, weights, matrices, ctx.geometry, part_grad, x_wanted, cells_wanted
        )
        of_inputs.append(of_x)
        of_weights.append(of_coefficients)
        if part is not None:  # summed in the type of the cells: many chunks need its digits
            of_cells = part.to(cells.dtype) if of_cells is None else of_cells.add_(part)
    if of_cells is not None:
        of_cells = ctx.form.restored(of_cells, cells)
    of_x = torch.cat(of_inputs).to(x.dtype) if x_wanted else None
    return [of_x, torch.cat(of_weights).to(coefficients.dtype), of_cells]


def _chunks(samples: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(tensor, samples) for tensor in tensors), strict=True)
