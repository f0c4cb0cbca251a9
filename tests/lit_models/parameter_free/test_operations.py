import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.parameter_free import (
    OPERATIONS,
    PARAMETER_FREE,
    bare_operation,
    spatial_operation,
)

OFTEN = settings(max_examples=40, deadline=None)
windows = st.fixed_dictionaries(
    {
        "kernel_size": st.tuples(*[st.sampled_from([1, 3, 5])] * 2),
        "stride": st.tuples(*[st.integers(1, 3)] * 2),
        "dilation": st.tuples(*[st.integers(1, 3)] * 2),
    }
)
sides = st.tuples(st.integers(1, 9), st.integers(1, 9))


def half(window: dict[str, tuple[int, int]]) -> tuple[int, int]:
    kernel, dilation = window["kernel_size"], window["dilation"]
    return dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2


def patches(x: Tensor, window: dict[str, tuple[int, int]], outside: float) -> Tensor:
    """Every window's pixels `(N, C, pixels, windows)`, with `outside` in the padding."""
    height, width = half(window)
    padded = F.pad(x, (width, width, height, height), value=outside)
    cut = F.unfold(padded, **window)
    return cut.unflatten(1, (x.shape[1], -1))


@OFTEN
@given(st.sampled_from(OPERATIONS), windows, sides, st.integers(1, 4))
def test_an_operation_has_the_size_of_a_convolution(
    name: str, window: dict[str, tuple[int, int]], size: tuple[int, int], channels: int
) -> None:
    x = torch.randn(2, channels, *size)
    convolution = nn.Conv2d(channels, channels, padding=half(window), **window)
    assert bare_operation(name, channels, **window)(x).shape == convolution(x).shape


@OFTEN
@given(windows, sides)
def test_max_pool_is_the_largest_pixel_of_the_image_in_the_window(
    window: dict[str, tuple[int, int]], size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size)
    y = bare_operation("max_pool", 3, **window)(x)
    assert torch.equal(y.flatten(2), patches(x, window, float("-inf")).amax(2))


@OFTEN
@given(windows, sides)
def test_avg_pool_is_the_mean_of_the_images_pixels_in_the_window(
    window: dict[str, tuple[int, int]], size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    inside = patches(torch.ones_like(x), window, 0).sum(2)
    y = bare_operation("avg_pool", 3, **window)(x)
    torch.testing.assert_close(y.flatten(2), patches(x, window, 0).sum(2) / inside)


@OFTEN
@given(windows, sides)
def test_identity_takes_the_pixels_that_kernels_are_centred_on(
    window: dict[str, tuple[int, int]], size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size)
    rows, columns = window["stride"]
    assert torch.equal(bare_operation("identity", 3, **window)(x), x[:, :, ::rows, ::columns])


def test_depthwise_convolution_keeps_channels_apart() -> None:
    operation = bare_operation("depthwise_conv", 3)
    x = torch.randn(1, 3, 5, 5, requires_grad=True)
    operation(x)[:, 1].sum().backward()
    assert x.grad is not None
    assert not x.grad[:, [0, 2]].any()


@pytest.mark.parametrize("name", OPERATIONS)
def test_norm_and_activation_follow_what_learns_and_nothing_else(name: str) -> None:
    layer = spatial_operation(name, 8, stride=2, act_layer=nn.GELU)
    kinds = [type(module) for module in layer.modules() if not list(module.children())]
    if name in PARAMETER_FREE:
        assert not list(layer.parameters())
        assert len(kinds) == 1
    else:
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.GELU]
        assert layer(torch.randn(2, 8, 7, 7)).shape == (2, 8, 4, 4)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("median", {}, "operation is 'median'; it must be one of conv, depthwise_conv, max_pool"),
        ("identity", {"kernel_size": 2}, r"no identity has the kernel \(2, 2\), the padding"),
        ("identity", {"padding": 0}, r"no identity has the kernel \(3, 3\), the padding \(0, 0\)"),
        ("max_pool", {"padding": 2}, r"no max_pool has the kernel \(3, 3\), the padding \(2, 2\)"),
        ("avg_pool", {"padding": (1, 2)}, r"no avg_pool has .*, the padding \(1, 2\), dilation"),
    ],
)
def test_what_no_operation_can_do_is_refused_in_one_line(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        bare_operation(name, 4, **options)
    assert "\n" not in str(error.value)
