"""The parts of an input that a kernel meets, laid side by side in the order of its pieces."""

import math
from collections.abc import Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_models.kernel_warehouse.geometry import Geometry


def windows(x: Tensor, geometry: Geometry) -> Tensor:
    """Return what the kernel meets of `x: (N, in, *spatial)` at each position of the output.

    Returns:
        `(N, positions, pieces * area)`: for every piece of the kernel, spatial ones outside, as
        many numbers as a cell has for an output channel. Cells of whole kernels have the kernel's
        positions last; where the kernel is cut into its positions, they are pieces.
    """
    if max(geometry.padding) > 0:
        x = F.pad(x, [pad for pad in reversed(geometry.padding) for _ in range(2)])
    x = x.movedim(1, -1).contiguous()  # whoever copies parts of it reads long runs
    parts = [x[index] for index in _positions(geometry, x.shape[1:-1])]
    return torch.stack(parts, _axis(geometry)).view(len(x), math.prod(parts[0].shape[1:-1]), -1)


def windows_gradient(grad: Tensor, geometry: Geometry, like: Tensor) -> Tensor:
    """Return the gradient of `windows` with respect to its input.

    Args:
        grad: The gradient of what `windows` returned.
        geometry: See `windows`.
        like: The input.
    """
    (batch, channels, *size), area = like.shape, math.prod(geometry.kernel[2:])
    last = (area, channels) if geometry.groups_spatial > 1 else (channels, area)
    grad = grad.reshape(batch, *geometry.maps(like.shape[2:]), *last)
    size = [side + 2 * pad for side, pad in zip(size, geometry.padding, strict=True)]
    padded = grad.new_zeros(batch, *size, channels)
    parts = grad.unbind(_axis(geometry))
    for index, part in zip(_positions(geometry, size), parts, strict=True):
        padded[index] += part
    sides = zip(like.shape[2:], geometry.padding, strict=True)
    inside = (slice(None), *(slice(pad, pad + side) for side, pad in sides))
    return channels_first(padded[inside], like)


def channels_first(y: Tensor, like: Tensor) -> Tensor:
    """Return `y: (N, *maps, out)` as `(N, out, *maps)` in the memory format of `like`."""
    y = y.movedim(-1, 1)
    return y.contiguous() if like.is_contiguous() else y


def _axis(geometry: Geometry) -> int:
    """Return where the kernel's positions are among the axes `(N, *maps, in)`."""
    return len(geometry.stride) + 1 if geometry.groups_spatial > 1 else -1


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
