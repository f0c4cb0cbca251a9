"""Products of two matrices, by whichever library is the fastest for them."""

import torch
from torch import Tensor

_ONEDNN = torch._C._has_mkldnn and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def product(left: Tensor, right: Tensor) -> Tensor:
    """Return `left @ right`, for tensors that need no gradient.

    On CPUs torch leaves float32 matrices to MKL, which computes without AVX-512 on AMD's
    processors, half as fast as oneDNN; torch's compiler calls oneDNN in the same way.

    Args:
        left: `(n, k)`, in any memory layout.
        right: `(k, m)`, in any memory layout.
    """
    if not (_ONEDNN and left.dtype == torch.float32 and left.device.type == "cpu"):
        return left @ right
    if not (right.is_contiguous() or right.t().is_contiguous()):
        right = right.contiguous()  # oneDNN takes others, a thousand times as slow
    y: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    return y
