import pytest
import timm
import torch
from fx_features import assert_fx_takes_features_out
from torch import nn

from lit_models.complexity import multiply_adds
from lit_models.parameter_free import OPERATIONS, PARAMETER_FREE, SpatialBottleneck

NETWORKS = ["single_bottleneck_cifar", "multiple_bottlenecks_cifar"]


def on_meta(name: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def bottlenecks(network: nn.Module) -> list[SpatialBottleneck]:
    return [module for module in network.modules() if isinstance(module, SpatialBottleneck)]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_networks_differ_in_the_operation_alone(name: str, operation: str) -> None:
    counts = {
        key: value.numel() for key, value in on_meta(name, operation=operation).state_dict().items()
    }
    baseline = on_meta(name).state_dict()
    assert counts.keys() <= baseline.keys()
    differing = [key for key in baseline if counts.get(key) != baseline[key].numel()]
    assert all(".conv2." in key or ".bn2." in key for key in differing)
    assert bool(differing) == (operation != "conv")


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("operation", PARAMETER_FREE)
def test_without_parameters_the_stem_has_the_only_spatial_kernel(name: str, operation: str) -> None:
    spatial = [
        path
        for path, module in on_meta(name, operation=operation).named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1)
    ]
    assert spatial == ["conv1"]


def test_depth_and_channels_are_options() -> None:
    assert len(bottlenecks(on_meta("single_bottleneck_cifar"))) == 1
    deep = on_meta("multiple_bottlenecks_cifar", layers=(1, 4), width=24)
    assert len(bottlenecks(deep)) == 5
    assert [block.conv2.in_channels for block in bottlenecks(deep)] == [24, 48, 48, 48, 48]
    assert deep.num_features == 192


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_operation_carries_the_stride(operation: str) -> None:
    network = timm.create_model("multiple_bottlenecks_cifar", operation=operation, width=4)
    assert network.forward_features(torch.randn(2, 3, 31, 31)).shape == (2, 64, 8, 8)
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_stem_that_strides_makes_a_quarter_of_the_work() -> None:
    whole, quarter = (
        multiply_adds(on_meta("single_bottleneck_cifar", stem_stride=stride), (3, 32, 32))
        for stride in (1, 2)
    )
    assert quarter == pytest.approx(whole / 4, rel=0.01)


@pytest.mark.parametrize("name", NETWORKS)
def test_fx_takes_features_out(name: str) -> None:
    network = timm.create_model(name, operation="max_pool", width=4).eval()
    assert_fx_takes_features_out(network, torch.randn(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operation": "median"}, "operation is 'median'; it must be one of conv, depthwise_conv"),
        ({"layers": ()}, r"layers is \[\]; every stage needs a bottleneck"),
        ({"layers": (1, 0)}, r"layers is \[1, 0\]; every stage needs a bottleneck"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta("single_bottleneck_cifar", **options)
