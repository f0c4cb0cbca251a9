"""Computing a mixture for few samples at a time and keeping only what goes into it.

What a form makes on its way (mixed inputs, kernels, windows) is many times larger than what goes in
and what comes out. So nothing of it is kept: the backward pass makes it again, all but the product
at the end, whose value it does not need.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from lit_models.kernel_warehouse.attention import full_precision
from lit_models.kernel_warehouse.geometry import Geometry

MatMul = Callable[[Tensor, Tensor], Tensor]


class Form(Protocol):
    """A `Mixture` of tensors of one type that leaves its last product to a function."""

    def __call__(
        self, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry, matmul: MatMul
    ) -> Tensor:
        """Return the output."""


def recomputed(
    form: Form, x: Tensor, coefficients: Tensor, cells: Tensor, geometry: Geometry, samples: int
) -> Tensor:
    """Return what a form computes, so many samples at a time; only its arguments are kept.

    Under autocast it computes in autocast's type. Compilers, exporters and function transforms see
    the form itself, the whole batch at once: they plan memory on their own.
    """
    dtype = _computing_type(x, cells)

    def compute(x: Tensor, coefficients: Tensor, cells: Tensor, matmul: MatMul) -> Tensor:
        return form(x.to(dtype), coefficients.to(dtype), cells.to(dtype), geometry, matmul)

    if _is_traced():
        return compute(x, coefficients, cells, torch.matmul)
    y: Tensor = _Recomputed.apply(x, coefficients, cells, compute, samples)
    return y


def _computing_type(x: Tensor, cells: Tensor) -> torch.dtype:
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return cells.dtype


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


class _Recomputed(torch.autograd.Function):
    """`compute(x, coefficients, cells, matmul)` in chunks of samples."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        coefficients: Tensor,
        cells: Tensor,
        compute: Callable[[Tensor, Tensor, Tensor, MatMul], Tensor],
        samples: int,
    ) -> Tensor:
        ctx.save_for_backward(x, coefficients, cells)
        ctx.compute, ctx.samples = compute, samples
        with full_precision(x.device.type):
            parts = [
                compute(inputs, weights, cells, torch.matmul)
                for inputs, weights in _chunks(samples, x, coefficients)
            ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        wanted = ctx.needs_input_grad[:3]
        with full_precision(grads[0].device.type):
            if torch.is_grad_enabled():  # somebody wants gradients of these gradients
                y = ctx.compute(*ctx.saved_tensors, torch.matmul)
                found = _gradients(y, ctx.saved_tensors, wanted, grads[0], create_graph=True)
            else:
                found = _in_chunks(ctx.compute, ctx.samples, ctx.saved_tensors, wanted, grads[0])
        return *found, None, None


def _in_chunks(
    compute: Callable[..., Tensor],
    samples: int,
    tensors: Sequence[Tensor],
    wanted: Sequence[bool],
    grad: Tensor,
) -> list[Tensor | None]:
    """Return the gradients of input, coefficients and cells, as far as they are wanted."""
    x, coefficients, cells = tensors
    of_samples: list[Sequence[Tensor | None]] = []
    of_cells: Tensor | None = None
    for inputs, weights, part_grad in _chunks(samples, x, coefficients, grad):
        leaves = [
            tensor.detach().requires_grad_(want)
            for tensor, want in zip((inputs, weights, cells), wanted, strict=True)
        ]
        with torch.enable_grad():
            y = compute(*leaves, _Unvalued.apply)
        *of_chunk, of_chunk_cells = _gradients(y, leaves, wanted, part_grad)
        of_samples.append(of_chunk)
        if of_cells is None:
            of_cells = of_chunk_cells
        elif of_chunk_cells is not None:
            of_cells += of_chunk_cells
    return [*map(_joined, zip(*of_samples, strict=True)), of_cells]


def _chunks(samples: int, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    return zip(*(torch.split(tensor, samples) for tensor in tensors), strict=True)


def _gradients(
    y: Tensor,
    inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    grad: Tensor,
    create_graph: bool = False,
) -> list[Tensor | None]:
    chosen = [tensor for tensor, want in zip(inputs, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(y, chosen, grad, create_graph=create_graph))
    return [next(found) if want else None for want in wanted]


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    if not present:
        return None
    return present[0] if len(present) == 1 else torch.cat(present)


class _Unvalued(torch.autograd.Function):
    """A product of matrices with its gradients but without its value."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return left.new_empty(*left.shape[:-1], right.shape[-1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        left, right = ctx.saved_tensors
        of_left = grads[0] @ right.mT if ctx.needs_input_grad[0] else None
        # In the order of the right factor's memory, which is a transposed matrix.
        of_right = (grads[0].mT @ left).mT if ctx.needs_input_grad[1] else None
        return of_left, of_right
