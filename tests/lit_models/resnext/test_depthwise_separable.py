"""Depthwise separable convolution: a convolution in groups of one channel, then a 1x1 one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from lit_models.resnext import DepthwiseSeparableConv2d
from lit_models.resnext.depthwise_separable import is_depthwise

SHAPES = {
    "in_channels": st.integers(2, 6),
    "out_channels": st.integers(1, 6),
    "kernel_size": st.sampled_from([1, 3, 5]),
    "stride": st.integers(1, 3),
    "dilation": st.integers(1, 2),
}


@settings(deadline=None)
@given(**SHAPES, side=st.integers(5, 9), seed=st.integers(0, 2**16))
def test_it_is_a_convolution_in_groups_of_one_and_a_1x1_convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    stride: int,
    dilation: int,
    side: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    layer = DepthwiseSeparableConv2d(
        in_channels, out_channels, kernel_size, stride, dilation
    ).eval()
    x = torch.randn(2, in_channels, side, side)
    padding = dilation * (kernel_size // 2)
    depthwise = nn.Conv2d(
        in_channels,
        in_channels,
        kernel_size,
        stride,
        padding,
        dilation,
        groups=in_channels,
        bias=False,
    )
    depthwise.weight = layer.conv_dw.weight
    y = F.relu(layer.bn1(depthwise(x)))
    y = F.relu(layer.bn2(torch.einsum("nchw,oc->nohw", y, layer.conv_pw.weight[:, :, 0, 0])))
    torch.testing.assert_close(layer(x), y)
    assert layer(x).shape == (2, out_channels, -(-side // stride), -(-side // stride))


@settings(deadline=None)
@given(**SHAPES, seed=st.integers(0, 2**16))
def test_without_norm_and_activation_it_is_one_convolution_of_low_rank(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, dilation: int, seed: int
) -> None:
    torch.manual_seed(seed)
    layer = DepthwiseSeparableConv2d(
        in_channels, out_channels, kernel_size, stride, dilation, norm_layer=None, act_layer=None
    ).double()
    nn.init.zeros_(layer.conv_dw.bias)
    x = torch.randn(2, in_channels, 8, 8, dtype=torch.float64)
    kernel = torch.einsum(
        "oc,chw->ochw", layer.conv_pw.weight[:, :, 0, 0], layer.conv_dw.weight[:, 0]
    )
    expected = F.conv2d(
        x, kernel, layer.conv_pw.bias, stride, dilation * (kernel_size // 2), dilation
    )
    torch.testing.assert_close(layer(x), expected)


def test_biases_stand_in_for_norms() -> None:
    with_norms = DepthwiseSeparableConv2d(4, 8)
    without = DepthwiseSeparableConv2d(4, 8, norm_layer=None)
    assert with_norms.conv_dw.bias is with_norms.conv_pw.bias is None
    assert without.conv_dw.bias.shape == (4,)
    assert without.conv_pw.bias.shape == (8,)
    assert len(list(without.parameters())) == 4


def test_other_norms_and_activations_are_taken() -> None:
    layer = DepthwiseSeparableConv2d(
        4, 8, norm_layer=lambda channels: nn.GroupNorm(2, channels), act_layer=nn.Hardswish
    )
    assert isinstance(layer.bn1, nn.GroupNorm)
    assert isinstance(layer.act2, nn.Hardswish)
    assert layer(torch.randn(1, 4, 5, 5)).shape == (1, 8, 5, 5)


def test_an_even_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size=2 must be odd"):
        DepthwiseSeparableConv2d(4, 8, 2)


def test_only_groups_of_one_of_several_channels_are_depthwise() -> None:
    assert is_depthwise(nn.Conv2d(4, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 8, 3, groups=2))
    assert not is_depthwise(nn.Conv2d(1, 8, 3))
