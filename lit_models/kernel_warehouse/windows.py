"""The parts of an input that the positions of a kernel meet."""

import math

import torch.nn.functional as F
from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry


def windows(x: Tensor, geometry: Geometry, *pieces: int) -> Tensor:
    """Return views `(N, *maps, *pieces, channels, *kernel_size)` of `x: (N, in, *spatial)`.

    Channels lie side by side in memory, so that whoever copies the views reads long runs.

    Args:
        x: The input, still without padding.
        geometry: Of the convolution.
        pieces: Into how many pieces the channels are cut, and these again.
    """
    if max(geometry.padding) > 0:
        x = F.pad(x, [pad for pad in reversed(geometry.padding) for _ in range(2)])
    views = x.movedim(1, -1).contiguous()
    for axis, size in enumerate(geometry.kernel[2:]):
        dilation = geometry.dilation[axis]
        views = views.unfold(axis + 1, dilation * (size - 1) + 1, geometry.stride[axis])
        views = views[..., ::dilation]
    axes = len(geometry.stride)
    channels = x.shape[1] // math.prod(pieces)
    return views.view(*views.shape[: axes + 1], *pieces, channels, *views.shape[axes + 2 :])


def channels_first(y: Tensor, like: Tensor) -> Tensor:
    """Return `y: (N, *maps, out)` as `(N, out, *maps)` in the memory format of `like`."""
    y = y.movedim(-1, 1)
    return y.contiguous() if like.is_contiguous() else y
