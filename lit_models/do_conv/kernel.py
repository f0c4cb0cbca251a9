"""The arithmetic of DO-Conv: from W and D to the kernel of an ordinary convolution, and back.

Source: "DO-Conv: Depthwise Over-parameterized Convolutional Layer", IEEE Transactions on Image
Processing 2022, Section 3. The area is a kernel's height times its width; D_mul is at least that.
"""
# W and D are the paper's names.
# ruff: noqa: N803, N806

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn


def fold(W: Tensor, D: Tensor, kernel_size: tuple[int, ...]) -> Tensor:
    """Return the kernel that DO-Conv gives to the convolution: (D + identity) W.

    The identity is never stored. Adding its product with W, instead of adding it to D, is no slower
    and keeps a small D exact in half precision.

    Args:
        W: `(out, in / groups, D_mul)`.
        D: `(in, area, D_mul)`, the difference from the identity.
        kernel_size: Height and width of the kernel.

    Returns:
        `(out, in / groups, height, width)`.
    """
    in_channels, area, depth_multiplier = D.shape
    # This pairing of D with the channels of grouped convolutions is that of the authors' PyTorch
    # code, and their checkpoints need it: the kernel of output o for the c-th of its inputs meets
    # D[(o mod groups) * in / groups + c], which need not be the input channel it is applied to.
    paired = W.reshape(-1, in_channels, depth_multiplier)
    with _autocast_off(W.device):
        learned = torch.bmm(paired.transpose(0, 1), D.transpose(1, 2)).transpose(0, 1)
    # In this order the sum is contiguous, as W is; the convolution would have to copy it otherwise.
    kernel = times_identity(paired, area) + learned
    return kernel.reshape(*W.shape[:2], *kernel_size)


@torch.no_grad()
def unfold(kernel: Tensor, depth_multiplier: int) -> Tensor:
    """Return a W that folds to `kernel` while D is zero.

    Where W has room for more than one copy of the kernel, all but the first are drawn as for a new
    layer, and the first makes up the difference: equal copies would stay equal for ever.

    Args:
        kernel: `(out, in / groups, height, width)`.
        depth_multiplier: D_mul.

    Returns:
        `(out, in / groups, D_mul)`; a view of `kernel` if D_mul is the area.
    """
    kernel = kernel.flatten(2)
    area = kernel.shape[2]
    if depth_multiplier == area:
        return kernel
    W = draw(kernel.new_empty(*kernel.shape[:2], depth_multiplier))
    W[..., :area] = 0
    W[..., :area] = kernel - times_identity(W, area)
    return W


def draw(W: Tensor) -> Tensor:
    """Fill W as the authors do: Kaiming-uniform (a = sqrt 5) with fan-in in / groups * D_mul."""
    return nn.init.kaiming_uniform_(W, a=math.sqrt(5))


@torch.no_grad()
def draw_depthwise(D: Tensor) -> Tensor:
    """Fill D so that its sum with the identity is random, from N(0, 1 / D_mul).

    The folded kernel then has the variance of W's columns, as with the identity alone.

    Args:
        D: `(in, area, D_mul)`, the difference from the identity.
    """
    _, area, depth_multiplier = D.shape
    eye = torch.eye(depth_multiplier, dtype=D.dtype, device=D.device)
    identity = times_identity(eye, area).T
    return D.normal_(0, depth_multiplier**-0.5).sub_(identity)


def times_identity(W: Tensor, area: int) -> Tensor:
    """Return the product of the identity with W: `(..., D_mul)` to `(..., area)`.

    The identity, `(area, D_mul)`, is D_mul // area identity matrices side by side and then columns
    of zeros; so the product is the sum of the copies of the kernel that W has room for.
    """
    copies = W.shape[-1] // area
    if W.shape[-1] == area:
        return W
    return W[..., : copies * area].reshape(*W.shape[:-1], copies, area).sum(-2)


def _autocast_off(device: torch.device) -> AbstractContextManager[None]:
    # Entered only where there is something to turn off: it is slower and clutters exported graphs.
    if device.type == "meta" or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
