"""Reading the authors' state dicts, and those of plain convolutions, into a DO-Conv."""
# W and D are the paper's names.
# ruff: noqa: N803

from typing import Any

import torch
from torch import Tensor

from lit_models.do_conv.kernel import times_identity, unfold


def translate_state(
    state: dict[str, Any], prefix: str, W: Tensor, D: Tensor | None, kernel_size: tuple[int, ...]
) -> list[str]:
    """Turn what a state dict holds for one layer into the entries that DO-Conv reads.

    The authors' `d_diag`, the identity once for each input channel, is checked and dropped. A plain
    convolution's `weight` becomes W, with a D of zeros. All else stays, for the usual reports of
    what is missing and unexpected.

    Args:
        state: Changed in place.
        prefix: What the layer's keys begin with.
        W: The layer's, `(out, in / groups, D_mul)`.
        D: The layer's, `(in, area, D_mul)`, or None for a 1x1 kernel.
        kernel_size: Height and width of the kernel.

    Returns:
        One line for each entry that cannot be read.
    """
    errors = []
    key = f"{prefix}d_diag"
    if D is not None and key in state:
        identity = d_diag(D.shape)
        if not torch.equal(state.pop(key).detach().float().cpu(), identity):
            errors.append(f"{key} is not the identity of shape {tuple(D.shape)}")
    key = f"{prefix}weight"
    if key in state and f"{prefix}W" not in state:
        kernel = state.pop(key)
        shape = (*W.shape[:2], *kernel_size)
        fits = kernel.shape == shape
        if not fits:
            errors.append(f"size mismatch for {key}: {tuple(kernel.shape)} instead of {shape}")
        state[f"{prefix}W"] = unfold(kernel, W.shape[2]) if fits else W
        if D is not None:
            state[f"{prefix}D"] = kernel.new_zeros(D.shape) if fits else D
    return errors


def d_diag(shape: torch.Size) -> Tensor:
    """Return the authors' constant for a D of this shape: the identity for each input channel.

    Args:
        shape: `(in, area, D_mul)`.
    """
    _, area, depth_multiplier = shape
    return times_identity(torch.eye(depth_multiplier), area).T.expand(shape)
