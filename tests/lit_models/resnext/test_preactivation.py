"""ResNet-200 and Wide ResNet on timm's ResNetV2."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_models.complexity import count_parameters, multiply_adds
from lit_models.registry import create_network
from lit_models.resnext.preactivation import resnet_200, wide_resnet


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def test_resnet_200_has_200_layers_and_about_15_billion_multiply_adds() -> None:
    with torch.device("meta"):
        network = create_network("resnet_200_1x64d")
    shortcuts = [name for name, _ in network.named_modules() if name.endswith("downsample.conv")]
    assert len(convolutions(network)) - len(shortcuts) + 1 == 200
    assert len(shortcuts) == 4
    assert [len(stage.blocks) for stage in network.stages] == [3, 24, 36, 3]
    assert round(multiply_adds(network, (3, 224, 224)) / 1e9) == 15
    assert all(conv.bias is None for conv in convolutions(network))


def test_resnet_200_is_active_before_it_splits() -> None:
    torch.manual_seed(0)
    network = resnet_200(layers=(2, 1, 1, 1), channels=(32, 32, 64, 64)).eval()
    x = torch.randn(2, 3, 64, 64)
    stem, first = network.stem, network.stages[0].blocks[0]
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.bias)
    active = F.max_pool2d(stem.norm(stem.conv(x)), 3, stride=2, padding=1)
    assert active.min() >= 0
    y = first.conv1(active)
    y = first.conv3(first.norm3(first.conv2(first.norm2(y))))
    expected = y + first.downsample.conv(active)
    torch.testing.assert_close(first(stem(x)), expected)
    second = network.stages[0].blocks[1]
    y = second.conv1(second.norm1(expected))
    y = second.conv3(second.norm3(second.conv2(second.norm2(y))))
    torch.testing.assert_close(second(expected), expected + y)
    assert network.forward_features(x).min() >= 0


def test_wide_resnet_28_10_has_36_5_million_parameters() -> None:
    with torch.device("meta"):
        network = create_network("wide_resnet_28_10")
    assert count_parameters(network) == 36_479_194
    shortcuts = [name for name, _ in network.named_modules() if name.endswith("downsample.conv")]
    # The paper counts the shortcuts' convolutions as layers.
    assert len(convolutions(network)) == 28
    assert len(shortcuts) == 3


def test_a_wide_resnet_has_no_other_depths() -> None:
    with pytest.raises(ValueError, match="depth=29 is not 4 more than a multiple of 6"):
        wide_resnet(depth=29)


@pytest.mark.parametrize(
    ("build", "options"), [(resnet_200, {"layers": (1, 1, 1, 1)}), (wide_resnet, {"depth": 10})]
)
def test_weights_start_as_in_torch7(
    build: Callable[..., nn.Module], options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    network = build(**options)
    for conv in convolutions(network):
        expected = (2 / (conv.kernel_size[0] ** 2 * conv.out_channels)) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.1)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in norms)
    classifier = network.get_classifier()
    assert isinstance(classifier, nn.Linear)
    assert not classifier.bias.any()
    assert classifier.weight.abs().max() <= classifier.in_features**-0.5
