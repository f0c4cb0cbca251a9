"""Products of two matrices, by whichever library is the fastest for them."""

import math

import torch
from torch import Tensor

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
