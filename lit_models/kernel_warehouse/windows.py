"""The parts of an input that the positions of a kernel meet, channels side by side in memory."""

from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry


def windows(x: Tensor, geometry: Geometry, axis: int) -> Tensor:
    """Return what every position of the kernel meets of `x: (N, in, *spatial)`.

    Args:
        x: The input, still without padding.
        geometry: Of the convolution.
        axis: Where the positions go among the axes `(N, *maps, in)`.
    """
    if max(geometry.padding) > 0:
        x = F.pad(x, [pad for pad in reversed(geometry.padding) for _ in range(2)])
    x = x.movedim(1, -1).contiguous()  # whoever copies parts of it reads long runs
    return torch.stack([x[index] for index in _positions(geometry, x.shape[1:-1])], axis)


def windows_gradient(grad: Tensor, geometry: Geometry, axis: int, like: Tensor) -> Tensor:
    """Return the gradient of `windows` with respect to its input.

    Args:
        grad: The gradient of what `windows` returned.
        geometry: See `windows`.
        axis: See `windows`.
        like: The input.
    """
    size = [side + 2 * pad for side, pad in zip(like.shape[2:], geometry.padding, strict=True)]
    padded = grad.new_zeros(like.shape[0], *size, like.shape[1])
    for index, part in zip(_positions(geometry, size), grad.unbind(axis), strict=True):
        padded[index] += part
    sides = zip(like.shape[2:], geometry.padding, strict=True)
    inside = (slice(None), *(slice(pad, pad + side) for side, pad in sides))
    return channels_first(padded[inside], like)


def channels_first(y: Tensor, like: Tensor) -> Tensor:
    """Return `y: (N, *maps, out)` as `(N, out, *maps)` in the memory format of `like`."""
    y = y.movedim(-1, 1)
    return y.contiguous() if like.is_contiguous() else y


def _positions(geometry: Geometry, size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield for every position of the kernel what it meets of maps `(N, *size)`, padded."""
    axes = list(zip(size, geometry.kernel[2:], geometry.stride, geometry.dilation, strict=True))
    for position in product(*map(range, geometry.kernel[2:])):
        starts = [at * dilation for at, (*_, dilation) in zip(position, axes, strict=True)]
        stops = [
            side - dilation * (kernel - 1) + start
            for start, (side, kernel, _, dilation) in zip(starts, axes, strict=True)
        ]
        yield (slice(None), *map(slice, starts, stops, geometry.stride))
