"""Products of two matrices, by whichever library is the fastest for them."""

import math
from typing import Any

import torch
from torch import Tensor

from lit_models.kernel_warehouse.recomputation import is_traced

_LEAST_MULTIPLY_ADDS = 2**22
"""With fewer, calling oneDNN takes as long as its product."""
_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`, for tensors that need no gradient.

    On CPUs torch leaves float32 matrices to MKL, which computes without AVX-512 on AMD's
    processors, half as fast as oneDNN; torch's compiler calls oneDNN in the same way.

    Args:
        left: `(n, k)`, in any memory layout.
        right: `(k, m)`, in any memory layout.
    """
    if not _uses_onednn(left):
        return left @ right
    if not (right.is_contiguous() or right.t().is_contiguous()):
        right = right.contiguous()  # oneDNN takes others, a thousand times as slow
    y: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    return y


def product_with_gradients(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`: `product` where nothing else has a say in how it is computed.

    Args:
        left: `(n, k)`.
        right: `(k, m)`.
    """
    if is_traced() or not _uses_onednn(left) or torch.is_autocast_enabled("cpu"):
        return left @ right
    y: Tensor = _Product.apply(left, right)
    return y


class _Product(torch.autograd.Function):
    """`product`, whose gradients are products, too."""

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor) -> Tensor:
        ctx.save_for_backward(left, right)
        return product(left, right)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (left, right), (of_left, of_right) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            product_with_gradients(grads[0], right.t()) if of_left else None,
            product_with_gradients(left.t(), grads[0]) if of_right else None,
        )


def products(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`, batches of matrices, for tensors that need no gradient.

    Args:
        left: `(N, B, n, k)` or `(N, 1, n, k)`.
        right: `(N, B, k, m)`.
    """
    shape = (*right.shape[:2], left.shape[2], right.shape[3])
    if not _uses_onednn(left) or math.prod(left.shape[2:]) * shape[3] < _LEAST_MULTIPLY_ADDS:
        return left @ right
    pairs = zip(left.expand(-1, shape[1], -1, -1).flatten(0, 1), right.flatten(0, 1), strict=True)
    return torch.stack([product(a, b) for a, b in pairs]).view(shape)


def _uses_onednn(left: Tensor) -> bool:
    return bool(_ONEDNN and left.dtype == torch.float32 and left.device.type == "cpu")
