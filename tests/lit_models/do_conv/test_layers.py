import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame, ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from torch import nn
from torch.nn import functional as F

from lit_models.do_conv import DOConv2d


@st.composite
def convolutions(draw: st.DrawFn) -> dict[str, Any]:
    """Arguments of `nn.Conv2d` for inputs of 9x11."""
    groups = draw(st.integers(1, 4))
    kernel_size = (draw(st.integers(1, 3)), draw(st.integers(1, 4)))
    arguments = {
        "in_channels": groups * draw(st.integers(1, 3)),
        "out_channels": groups * draw(st.integers(1, 3)),
        "kernel_size": kernel_size,
        "groups": groups,
        "bias": draw(st.booleans()),
        "dilation": draw(st.sampled_from([1, 2, (1, 2)])),
        "padding_mode": draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    }
    if draw(st.booleans()):
        return arguments | {"padding": draw(st.sampled_from(["same", "valid"]))}
    padding = draw(st.sampled_from([0, 1, (0, 2), (2, 1)]))
    return arguments | {"padding": padding, "stride": draw(st.sampled_from([1, 2, (2, 1)]))}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@settings(deadline=None, max_examples=100)
@given(arguments=convolutions(), surplus=st.sampled_from([None, 0, 1, 5, 12, 30]))
def test_a_converted_layer_computes_the_same_at_once_and_fused(
    arguments: dict[str, Any], surplus: int | None
) -> None:
    conv = nn.Conv2d(**arguments)
    area = math.prod(conv.kernel_size)
    images = torch.randn(2, conv.in_channels, 9, 11)
    layer = DOConv2d.from_conv(conv, None if surplus is None else area + surplus)
    torch.testing.assert_close(layer(images), conv(images))

    # Now as training would leave it: nothing about the kernel is plain any more.
    if layer.D is not None:
        nn.init.normal_(layer.D)
    nn.init.normal_(layer.W)
    fused = layer.fuse()
    conv.weight.data = layer.weight.detach()
    assert torch.equal(layer(images), conv(images))
    assert torch.equal(layer(images), fused(images))
    assert type(fused) is nn.Conv2d
    assert repr(fused) == repr(conv)


@settings(deadline=None, max_examples=60)
@given(arguments=convolutions(), surplus=st.integers(0, 12), seed=st.integers(0, 99))
def test_a_new_layer_starts_as_the_authors_draw_it(
    arguments: dict[str, Any], surplus: int, seed: int
) -> None:
    area = math.prod(arguments["kernel_size"])
    depth_multiplier = 1 if area == 1 else area + surplus
    torch.manual_seed(seed)
    layer = DOConv2d(**arguments, depth_multiplier=depth_multiplier)

    torch.manual_seed(seed)
    in_per_group = arguments["in_channels"] // arguments["groups"]
    bound = 1 / math.sqrt(in_per_group * depth_multiplier)
    W = torch.empty(arguments["out_channels"], in_per_group, depth_multiplier)  # noqa: N806
    # Kaiming-uniform with a = sqrt 5 has the bound of the bias.
    torch.testing.assert_close(layer.W.data, W.uniform_(-bound, bound))
    if arguments["bias"]:
        bias = torch.empty(arguments["out_channels"]).uniform_(-bound, bound)
        torch.testing.assert_close(layer.bias.data, bias)
    assert layer.D is None or (layer.D == 0).all()


def test_a_new_layer_with_the_area_as_multiplier_starts_as_a_plain_one() -> None:
    torch.manual_seed(3)
    layer = DOConv2d(4, 6, 3, groups=2)
    torch.manual_seed(3)
    conv = nn.Conv2d(4, 6, 3, groups=2)
    assert torch.equal(layer.weight, conv.weight)
    assert torch.equal(layer.bias, conv.bias)


def test_parameters_are_w_d_and_bias_and_there_are_no_buffers() -> None:
    layer = DOConv2d(4, 6, (3, 5), groups=2, depth_multiplier=20)
    shapes = {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}
    assert shapes == {"W": (6, 2, 20), "D": (4, 15, 20), "bias": (6,)}
    assert not list(layer.buffers())


def test_a_1x1_layer_has_no_d_and_ignores_the_depth_multiplier() -> None:
    layer = DOConv2d(4, 6, 1, depth_multiplier=5)
    assert layer.depth_multiplier == 1
    assert [name for name, _ in layer.named_parameters()] == ["W", "bias"]
    images = torch.randn(1, 4, 5, 5)
    torch.testing.assert_close(layer(images), F.conv2d(images, layer.W[..., None], layer.bias))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"depth_multiplier": 8}, "depth_multiplier"),
        ({"depth_multiplier": 0}, "depth_multiplier"),
        ({"depth_multiplier": 9.5}, "depth_multiplier"),
        ({"in_channels": 0}, "in_channels"),
        ({"out_channels": -1}, "out_channels"),
        ({"kernel_size": (3, 0)}, "kernel_size"),
        ({"stride": 0}, "stride"),
        ({"dilation": (1, 0)}, "dilation"),
        ({"padding": (0, -1)}, "padding"),
        ({"padding": "full"}, "padding"),
        ({"padding": "same", "stride": 2}, "padding"),
        ({"padding_mode": "mirror"}, "padding_mode"),
        ({"groups": 3}, "groups"),
        ({"groups": 0}, "groups"),
    ],
)
def test_an_invalid_argument_is_named(arguments: dict[str, Any], named: str) -> None:
    valid = {"in_channels": 4, "out_channels": 4, "kernel_size": 3}
    with pytest.raises(ValueError, match=named):
        DOConv2d(**valid | arguments)


def test_the_shown_settings_include_the_depth_multiplier() -> None:
    assert "kernel_size=(3, 3)" in repr(DOConv2d(2, 2, 3))
    assert "depth_multiplier=12" in repr(DOConv2d(2, 2, 3, depth_multiplier=12))


@pytest.mark.parametrize("depth_multiplier", [None, 12, 18])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_every_parameter_learns_in_every_element(groups: int, depth_multiplier: int | None) -> None:
    layer = DOConv2d.from_conv(nn.Conv2d(4, 8, 3, groups=groups), depth_multiplier)
    nn.init.normal_(layer.D)
    layer(torch.randn(2, 4, 6, 6)).pow(2).sum().backward()
    assert all((parameter.grad != 0).all() for parameter in layer.parameters())


def test_a_converted_layer_shares_no_memory_with_the_convolution() -> None:
    conv = nn.Conv2d(2, 2, 3)
    before = {name: tensor.clone() for name, tensor in conv.state_dict().items()}
    layer = DOConv2d.from_conv(conv)
    fused = layer.fuse()
    for parameter in (*layer.parameters(), *fused.parameters()):
        nn.init.constant_(parameter, 7)
    assert all(torch.equal(conv.state_dict()[name], before[name]) for name in before)
    assert (layer.bias == 7).all()


@pytest.mark.parametrize("frozen", [(), ("weight",), ("bias",), ("weight", "bias")])
def test_frozen_parameters_stay_frozen_over_and_back(frozen: tuple[str, ...]) -> None:
    conv = nn.Conv2d(2, 2, 3)
    for name in frozen:
        getattr(conv, name).requires_grad_(False)
    layer = DOConv2d.from_conv(conv)
    assert layer.W.requires_grad is layer.D.requires_grad is ("weight" not in frozen)
    assert layer.bias.requires_grad is ("bias" not in frozen)
    fused = layer.fuse()
    assert fused.weight.requires_grad is ("weight" not in frozen)
    assert fused.bias.requires_grad is ("bias" not in frozen)


def test_training_mode_is_kept_over_and_back() -> None:
    for training in (True, False):
        layer = DOConv2d.from_conv(nn.Conv2d(2, 2, 3).train(training))
        assert layer.training is layer.fuse().training is training


def test_the_folded_kernel_cannot_be_assigned() -> None:
    layer = DOConv2d(2, 2, 3)
    with pytest.raises(AttributeError):
        layer.weight = torch.zeros(2, 2, 3, 3)
    with pytest.raises(KeyError):
        layer.weight = nn.Parameter(torch.zeros(2, 2, 3, 3))


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (DOConv2d(2, 2, 3), "no kernel of its own"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3)), "no kernel of its own"),
        (nn.LazyConv2d(2, 3), "run a batch"),
    ],
    ids=["DO-Conv", "weight norm", "lazy"],
)
def test_a_convolution_without_a_kernel_of_its_own_is_refused(conv: nn.Conv2d, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        DOConv2d.from_conv(conv)


class TestSubclasses:
    """Convolutions of timm whose forward is not that of `nn.Conv2d`."""

    classes = pytest.mark.parametrize(
        "cls", [Conv2dSame, StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame]
    )

    @classes
    def test_the_forward_of_a_subclass_is_kept(self, cls: type[nn.Conv2d]) -> None:
        conv = cls(4, 6, 3, stride=2, bias=True)
        images = torch.randn(2, 4, 7, 8)
        layer = DOConv2d.from_conv(conv, 12)
        assert isinstance(layer, DOConv2d)
        assert isinstance(layer, cls)
        # Standardisation divides by the kernel's deviation, which amplifies rounding.
        torch.testing.assert_close(layer(images), conv(images), rtol=1e-4, atol=1e-5)

    @classes
    def test_fusing_gives_the_subclass_back(self, cls: type[nn.Conv2d]) -> None:
        conv = cls(4, 6, 3, stride=2, bias=True)
        layer = DOConv2d.from_conv(conv)
        nn.init.normal_(layer.D)
        fused = layer.fuse()
        assert type(fused) is cls
        assert repr(fused) == repr(conv)
        assert vars(fused).keys() == vars(conv).keys()
        assert {k: v.shape for k, v in fused.state_dict().items()} == {
            k: v.shape for k, v in conv.state_dict().items()
        }
        images = torch.randn(2, 4, 7, 8)
        assert torch.equal(fused(images), layer(images))
        assert not torch.allclose(fused(images), conv(images))

    def test_every_parameter_of_a_subclass_learns(self) -> None:
        layer = DOConv2d.from_conv(ScaledStdConv2d(4, 6, 3))
        layer(torch.randn(2, 4, 7, 8)).pow(2).sum().backward()
        assert [name for name, _ in layer.named_parameters()] == ["W", "D", "bias", "gain"]
        assert all(parameter.grad is not None for parameter in layer.parameters())

    def test_two_layers_over_the_same_subclass_are_of_one_type(self) -> None:
        layers = [DOConv2d.from_conv(Conv2dSame(2, 2, 3)) for _ in range(2)]
        assert type(layers[0]) is type(layers[1])
        assert type(layers[0]).__name__ == "DOConv2dSame"
