"""What timm's own tests ask of a network."""

from typing import Any

import pytest
import torch
from fx_features import assert_fx_takes_features_out
from timm.models import group_parameters
from torch import Tensor, nn

from lit_models.registry import create_network

# One for each way of building a network; those of torchvision have fewer options.
TORCHVISION = ["alexnet", "squeezenet", "googlenet"]
KINDS = [
    "resnext_50_32x4d",
    "resnext50_32x4d_biased",
    "resnext_29_16x2d_small",
    "resnet_200_1x64d",
    "wide_resnet_28_10",
    "mobilenet_v1_025",
    "mobilenet_v1_050_cifar",
    "tiny_depthwise_separable",
]
# The same with fewer layers or channels where that makes no other difference.
SMALLER: dict[str, dict[str, Any]] = {
    "resnet_200_1x64d": {"layers": (2, 1, 1, 1), "channels": (32, 32, 64, 64)},
    "wide_resnet_28_10": {"depth": 10, "widen_factor": 1},
    "resnext_50_32x4d": {"layers": (2, 1, 1, 1)},
    "resnext50_32x4d_biased": {"layers": (2, 2, 2, 2)},
}


def create(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return create_network(name, **SMALLER.get(name, {}), **options)


def images(network: nn.Module, batch: int = 2, side: int | None = None) -> Tensor:
    channels, own, _ = network.default_cfg["input_size"]
    return torch.randn(batch, channels, side or min(own, 64), side or min(own, 64))


@pytest.mark.parametrize("name", [*KINDS, *TORCHVISION])
def test_every_parameter_learns_and_the_classes_are_counted(name: str) -> None:
    network = create(name, num_classes=42).train()
    y = network(images(network))
    assert y.shape == (2, 42)
    y.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", [*KINDS, *TORCHVISION])
def test_networks_come_apart_as_timms_do(name: str) -> None:
    network = create(name).eval()
    x = images(network, batch=1, side=network.default_cfg["input_size"][1])
    with torch.inference_mode():
        maps = network.forward_features(x)
        assert maps.shape[1:] == (network.num_features, *network.default_cfg["pool_size"])
        assert network.forward_head(maps, pre_logits=True).shape == (1, network.head_hidden_size)
        torch.testing.assert_close(network.forward_head(maps), network(x))
        network.reset_classifier(0)
        assert network(x).shape == (1, network.head_hidden_size)
        network.reset_classifier(7)
        assert network(x).shape == (1, 7)
        assert network.get_classifier().weight.shape[0] == 7


@pytest.mark.parametrize("name", [*KINDS, *TORCHVISION])
def test_features_have_the_announced_channels_and_sides(name: str) -> None:
    network = create(name, features_only=True).train()
    x = images(network)
    maps = network(x)
    assert [feature.shape[1] for feature in maps] == network.feature_info.channels()
    if name not in TORCHVISION:  # they do not pad everywhere, so their maps are a bit smaller
        sides = [-(-x.shape[2] // reduction) for reduction in network.feature_info.reduction()]
        assert [feature.shape[2] for feature in maps] == sides


@pytest.mark.parametrize("name", KINDS)
def test_intermediate_features_are_those_of_features_only(name: str) -> None:
    network = create(name).eval()
    x = images(network)
    with torch.inference_mode():
        last, _ = network.forward_intermediates(x)
        torch.testing.assert_close(last, network.forward_features(x))
    listed = create(name, features_only=True).eval()
    getter = create(name, features_only=True, feature_cls="getter").eval()
    for one, other in zip(listed(x), getter(x), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", KINDS)
def test_training_options_change_no_result_but_by_chance(name: str) -> None:
    network = create(name, drop_rate=0.2, num_classes=5)
    x = images(network)
    expected = network.eval()(x)
    network.set_grad_checkpointing(True)
    torch.testing.assert_close(network(x), expected)
    network.train()(x).mean().backward()
    groups = group_parameters(network, network.group_matcher(coarse=False))
    named = [name for names in groups.values() for name in names]
    assert len(named) == len(list(network.parameters()))


@pytest.mark.parametrize("name", [*KINDS, *TORCHVISION])
def test_torch_fx_takes_features_out_with_all_their_parameters(name: str) -> None:
    network = create(name).eval()
    assert_fx_takes_features_out(network, images(network))
