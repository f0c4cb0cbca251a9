"""MobileNetV1: sizes, layers, and which weights do not decay."""

from typing import Any

import pytest
import torch
from torch import nn

from lit_models.complexity import count_parameters, multiply_adds
from lit_models.optimization import OptimizerSettings, build_optimizer
from lit_models.registry import create_network
from lit_models.resnext import DepthwiseSeparableConv2d
from lit_models.resnext.depthwise_separable import is_depthwise


def on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return create_network(name, **options)


def test_the_whole_network_has_exactly_the_counted_parameters() -> None:
    network = on_meta("mobilenet_v1_100")
    assert count_parameters(network) == 4_231_976
    assert round(multiply_adds(network, (3, 224, 224)) / 1e6) == 569


def test_it_has_28_layers() -> None:
    network = on_meta("mobilenet_v1_100")
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 28
    assert all(layer.bias is None for layer in layers[:-1])


@pytest.mark.parametrize(
    ("name", "resolution", "millions"),
    [
        ("mobilenet_v1_100", 192, 418),
        ("mobilenet_v1_100", 160, 290),
        ("mobilenet_v1_100", 128, 186),
        ("mobilenet_v1_050", 160, 76),
    ],
)
def test_smaller_images_cost_as_published(name: str, resolution: int, millions: int) -> None:
    cost = multiply_adds(on_meta(name), (3, resolution, resolution)) / 1e6
    assert abs(cost - millions) < 1


def test_the_shallow_network_lacks_five_layers_of_512_channels() -> None:
    def layers(name: str) -> list[tuple[int, int, int]]:
        blocks = [m for m in on_meta(name).modules() if isinstance(m, DepthwiseSeparableConv2d)]
        return [
            (block.conv_dw.in_channels, block.conv_pw.out_channels, block.conv_dw.stride[0])
            for block in blocks
        ]

    deep, shallow = layers("mobilenet_v1_100"), layers("mobilenet_v1_shallow")
    assert len(deep) == 13
    assert [layer for layer in deep if layer != (512, 512, 1)] == shallow
    assert deep.count((512, 512, 1)) == 5


def test_the_last_depthwise_layer_does_not_stride() -> None:
    network = on_meta("mobilenet_v1_100")
    assert network.stages[4][1].conv_dw.stride == (1, 1)
    assert network.forward_features(torch.zeros(1, 3, 224, 224, device="meta")).shape[2] == 7


def test_full_convolutions_cost_the_published_many_times_more() -> None:
    full = on_meta("mobilenet_v1_full_convolution")
    classifier = full.get_classifier().weight.numel()
    assert round(count_parameters(full) / 1e6, 1) == 29.3
    assert round((multiply_adds(full, (3, 224, 224)) - classifier) / 1e6) == 4866
    assert not any(is_depthwise(m) for m in full.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("percent", "alpha"), [("025", 0.25), ("050", 0.5), ("075", 0.75)])
def test_the_width_multiplier_thins_every_layer(percent: str, alpha: float) -> None:
    thin, whole = on_meta(f"mobilenet_v1_{percent}"), on_meta("mobilenet_v1_100")
    for one, other in zip(thin.modules(), whole.modules(), strict=True):
        if isinstance(one, nn.Conv2d):
            assert one.out_channels == alpha * other.out_channels


def test_depthwise_kernels_norms_and_biases_do_not_decay() -> None:
    network = create_network("mobilenet_v1_025")
    optimizer = build_optimizer(
        network,
        OptimizerSettings(name="rmsproptf", lr=0.045, weight_decay=4e-5, args={"eps": 1.0}),
    )
    decays = {
        id(parameter): group["weight_decay"] > 0
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for name, parameter in network.named_parameters():
        expected = parameter.dim() > 1 and "conv_dw" not in name
        assert decays[id(parameter)] == expected, name


def test_weights_start_with_the_variance_of_their_fan_out() -> None:
    torch.manual_seed(0)
    network = create_network("mobilenet_v1_100")
    last = network.stages[4][1]
    assert last.conv_pw.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.01)
    assert last.conv_dw.weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.03)
    assert not network.get_classifier().bias.any()


def test_the_tiny_networks_differ_in_their_layers_alone() -> None:
    kinds = ("full_convolution", "grouped_convolution", "depthwise_separable")
    networks = [on_meta(f"tiny_{kind}") for kind in kinds]
    shapes = [
        [tuple(stage.shape) for stage in network.forward_intermediates(image)[1]]
        for network, image in zip(
            networks, [torch.zeros(1, 1, 28, 28, device="meta")] * 3, strict=True
        )
    ]
    assert shapes[0] == shapes[1] == shapes[2]
    full, grouped, separable = (multiply_adds(network, (1, 28, 28)) for network in networks)
    assert 7 < full / separable < full / grouped < 8


def test_only_maps_of_channels_first_are_returned() -> None:
    network = on_meta("tiny_depthwise_separable")
    with pytest.raises(ValueError, match="output_fmt='NHWC' must be 'NCHW'"):
        network.forward_intermediates(torch.zeros(1, 1, 28, 28), output_fmt="NHWC")
