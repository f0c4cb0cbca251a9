"""The spatial operations that the paper compares, by name."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from timm.layers import to_2tuple
from torch import Tensor, nn
from torch.nn import functional as F

ParameterFreeOperation = Literal["max_pool", "avg_pool", "identity"]
Operation = Literal["conv", "depthwise_conv", "max_pool", "avg_pool", "identity"]
PARAMETER_FREE: tuple[ParameterFreeOperation, ...] = get_args(ParameterFreeOperation)
OPERATIONS: tuple[Operation, ...] = get_args(Operation)

Size = int | tuple[int, ...]


def bare_operation(
    name: Operation,
    channels: int,
    kernel_size: Size = 3,
    stride: Size = 1,
    padding: Size | None = None,
    dilation: Size = 1,
) -> nn.Module:
    """Return a spatial operation that keeps the channels, without norm and activation.

    Averages are over the pixels of the image, not over its padding. The identity with a stride
    takes the pixels on which a convolution's kernel would be centred.

    Args:
        name: One of `OPERATIONS`.
        channels: Channels of `x: (N, C, H, W)`; the parameter-free operations take any number.
        kernel_size: Height and width of the window.
        stride: Stride.
        padding: Padding on each side; None for half of the kernel, which keeps the map's size at
            stride 1 if the kernel is odd.
        dilation: Distance of the pixels in a window.

    Raises:
        ValueError: If there is no such operation, or none with this kernel and padding.
    """
    if name not in OPERATIONS:
        raise ValueError(f"operation is {name!r}; it must be one of {', '.join(OPERATIONS)}")
    kernel, steps, apart = to_2tuple(kernel_size), to_2tuple(stride), to_2tuple(dilation)
    half = tuple(d * (k - 1) // 2 for k, d in zip(kernel, apart, strict=True))
    pad = half if padding is None else to_2tuple(padding)
    if name in ("conv", "depthwise_conv"):
        groups = 1 if name == "conv" else channels
        return nn.Conv2d(channels, channels, kernel, steps, pad, apart, groups, bias=False)
    # Both sides together; an even kernel cannot keep the size.
    keeps_size = all(2 * p == d * (k - 1) for k, p, d in zip(kernel, pad, apart, strict=True))
    within = all(p <= k // 2 for k, p in zip(kernel, pad, strict=True))
    if not keeps_size and (name == "identity" or not within):
        raise ValueError(f"no {name} has the kernel {kernel}, the padding {pad}, dilation {apart}")
    if name == "identity":
        # A window of one pixel: subsampling that has a gradient and no indices to keep for it.
        return nn.Identity() if steps == (1, 1) else nn.AvgPool2d(1, steps)
    if name == "avg_pool":
        if apart == (1, 1):
            return nn.AvgPool2d(kernel, steps, pad, count_include_pad=False)
        return DilatedAvgPool2d(kernel, steps, pad, apart)
    if within:
        return nn.MaxPool2d(kernel, steps, pad, apart)
    # torch's own padding ends at half the kernel, however dilated.
    sides = (pad[1], pad[1], pad[0], pad[0])
    pool = nn.MaxPool2d(kernel, steps, dilation=apart)
    return nn.Sequential(OrderedDict(pad=nn.ConstantPad2d(sides, float("-inf")), pool=pool))


def spatial_operation(
    name: Operation,
    channels: int,
    kernel_size: Size = 3,
    stride: Size = 1,
    dilation: Size = 1,
    norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
    act_layer: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Module:
    """Return a spatial layer as it stands between two pointwise convolutions.

    A trainable operation is followed by norm and activation, a parameter-free one by nothing, as
    in the authors' code. For the arguments see `bare_operation`.
    """
    operation = bare_operation(name, channels, kernel_size, stride, dilation=dilation)
    if name in PARAMETER_FREE:
        return operation
    layers = {"conv": operation, "norm": norm_layer(channels), "act": act_layer()}
    return nn.Sequential(OrderedDict(layers))


class DilatedAvgPool2d(nn.Module):
    """Average over the pixels of a dilated window that lie in the image; torch has none."""

    def __init__(
        self,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.where: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}

    def forward(self, x: Tensor) -> Tensor:
        """Averages `(N, C, H', W')` of `x: (N, C, H, W)`."""
        window = x.new_ones(1, 1, *self.kernel_size)
        channels = x.shape[1]
        total = F.conv2d(x, window.expand(channels, -1, -1, -1), groups=channels, **self.where)
        pixels = F.conv2d(torch.ones_like(x[:1, :1]), window, **self.where)
        return total / pixels

    def extra_repr(self) -> str:
        """What the window is."""
        return ", ".join(
            f"{k}={v}" for k, v in {"kernel_size": self.kernel_size, **self.where}.items()
        )
