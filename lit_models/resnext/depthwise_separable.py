"""Depthwise separable convolution: space and channels are convolved one after the other.

"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv
1704.04861, section 3.1.
"""

from collections.abc import Callable

from torch import Tensor, nn

Layer = Callable[..., nn.Module]


class DepthwiseSeparableConv2d(nn.Module):
    """A depthwise convolution and a 1x1 convolution, each with a norm and an activation behind.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the depthwise kernel; odd, so that stride 1 keeps the map's size.
        stride: Stride of the depthwise convolution; that of the 1x1 convolution is 1.
        dilation: Dilation of the depthwise convolution.
        norm_layer: Makes a norm of a number of channels; None for none, and biases instead.
        act_layer: Makes an activation; None for none.

    Raises:
        ValueError: The kernel's side is even.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        dilation: int = 1,
        norm_layer: Layer | None = nn.BatchNorm2d,
        act_layer: Layer | None = nn.ReLU,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd")
        norm_layer, bias = norm_layer or _nothing, norm_layer is None
        act_layer = act_layer or _nothing
        self.conv_dw = nn.Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            stride,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            groups=in_channels,
            bias=bias,
        )
        self.bn1 = norm_layer(in_channels)
        self.act1 = act_layer()
        self.conv_pw = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        self.bn2 = norm_layer(out_channels)
        self.act2 = act_layer()

    def forward(self, x: Tensor) -> Tensor:
        """Return `(N, out_channels, H', W')` of `x: (N, in_channels, H, W)`."""
        x = self.act1(self.bn1(self.conv_dw(x)))
        y: Tensor = self.act2(self.bn2(self.conv_pw(x)))
        return y


def is_depthwise(conv: nn.Conv2d) -> bool:
    """Whether every channel is convolved alone."""
    return conv.groups == conv.in_channels > 1


def _nothing(*_: int) -> nn.Module:
    return nn.Identity()
