"""ResNeXt on timm's ResNet: sizes, first weights, paths, and what is left without shortcuts."""

from typing import Any

import pytest
import timm
import torch
from timm.models.resnet import Bottleneck
from torch import nn

from lit_models.complexity import count_parameters, multiply_adds
from lit_models.registry import create_network

# Parameters and billions of multiply-adds, counted on the authors' definition.
COUNTS = {
    "resnet_50_1x64d": (25_557_032, 4.089),
    "resnext_50_2x40d": (25_425_000, 4.125),
    "resnext_50_4x24d": (25_292_968, 4.16),
    "resnext_50_8x14d": (25_603_016, 4.267),
    "resnext_50_32x4d": (25_028_904, 4.23),
    "resnet_101_1x64d": (44_549_160, 7.801),
    "resnext_101_2x40d": (44_456_296, 7.844),
    "resnext_101_4x24d": (44_363_432, 7.886),
    "resnext_101_8x14d": (45_104_328, 8.077),
    "resnext_101_32x4d": (44_177_704, 7.97),
    "resnet_101_1x100d": (85_611_336, 15.273),
    "resnext_101_2x64d": (84_198_184, 15.123),
    "resnext_101_64x4d": (83_455_272, 15.46),
    "resnext_29_8x64d": (34_426_698, 5.387),
    "resnext_29_16x64d": (68_155_210, 10.689),
}
WIDTH_SERIES = {2: 99, 4: 148, 8: 219, 16: 320}
SMALL = ["resnet_29_1x16d_small", "resnext_29_4x6d_small", "resnext_29_16x2d_small"]


def on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return create_network(name, **options)


@pytest.mark.parametrize("name", COUNTS)
def test_networks_cost_exactly_what_the_definition_says(name: str) -> None:
    network = on_meta(name)
    billions = multiply_adds(network, network.default_cfg["input_size"]) / 1e9
    assert (count_parameters(network), round(billions, 3)) == COUNTS[name]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet_29_1x64d", 4_914_250),
        ("resnext_29_2x64d", 9_130_314),
        ("resnext_29_4x64d", 17_562_442),
    ],
)
def test_the_figures_networks_have_exactly_the_counted_parameters(
    name: str, parameters: int
) -> None:
    assert count_parameters(on_meta(name)) == parameters


def test_the_hundred_classes_of_cifar_100_are_counted() -> None:
    assert count_parameters(on_meta("resnext_29_8x64d", num_classes=100)) == 34_518_948
    assert count_parameters(on_meta("resnext_29_16x64d", num_classes=100)) == 68_247_460


@pytest.mark.parametrize(("name", "width"), [("50_32x4d", 128), ("50_8x14d", 112)])
def test_the_first_stage_is_as_wide_as_all_its_paths(name: str, width: int) -> None:
    conv = on_meta(f"resnext_{name}").layer1[0].conv2
    assert conv.out_channels == width
    assert f"{conv.groups}x{conv.out_channels // conv.groups}d" == name.partition("_")[2]


@pytest.mark.parametrize("name", ["resnet_50_1x64d", "resnext_101_64x4d", "resnext_29_2x64d"])
def test_stages_stride_in_the_grouped_convolution_of_their_first_block(name: str) -> None:
    network = on_meta(name)
    stages = [stage for stage in (network.layer1, network.layer2, network.layer3) if len(stage)]
    strides = [[block.conv2.stride[0] for block in stage] for stage in stages]
    assert [stride[0] for stride in strides] == [1, 2, 2]
    assert all(other == 1 for stage in strides for other in stage[1:])
    for stage in stages:
        assert all(block.conv1.stride == (1, 1) for block in stage)
        assert [block.downsample is not None for block in stage] == [True] + [False] * (
            len(stage) - 1
        )


@pytest.mark.parametrize("paths", WIDTH_SERIES)
def test_the_wide_networks_match_the_ones_with_many_paths_as_nearly_as_a_width_can(
    paths: int,
) -> None:
    many = count_parameters(on_meta(f"resnext_29_{paths}x64d"))
    width = WIDTH_SERIES[paths]
    differences = {
        near: abs(count_parameters(on_meta("resnet_29_1x64d", base_width=near)) - many)
        for near in (width - 1, width, width + 1)
    }
    assert min(differences, key=differences.__getitem__) == width
    assert on_meta(f"resnet_29_1x{width}d").layer1[0].conv2.out_channels == width


def test_the_small_networks_cost_the_same_within_a_tenth() -> None:
    costs = [multiply_adds(on_meta(name), (3, 32, 32)) for name in SMALL]
    assert max(costs) < 1.11 * min(costs)
    assert costs[0] < 60e6
    sizes = [count_parameters(on_meta(name)) for name in SMALL]
    assert max(sizes) < 1.05 * min(sizes)


def test_weights_start_as_the_authors_do() -> None:
    torch.manual_seed(0)
    network = create_network("resnext_50_32x4d")
    grouped = network.layer4[1].conv2
    assert grouped.weight.std().item() == pytest.approx((2 / (9 * 1024)) ** 0.5, rel=0.02)
    pointwise = network.layer3[0].conv3
    assert pointwise.weight.std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.02)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in norms)
    bound = 2048**-0.5
    assert network.fc.weight.abs().max() <= bound
    assert network.fc.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not network.fc.bias.any()


def test_the_3x3_stem_starts_as_every_other_convolution() -> None:
    torch.manual_seed(0)
    stem = create_network("resnext_29_4x6d_small").conv1
    assert stem.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("ours", "timms"),
    [("resnext_50_32x4d", "resnext50_32x4d"), ("resnet_50_1x64d", "resnet50")],
)
def test_timms_weights_fit_the_networks_that_timm_has(ours: str, timms: str) -> None:
    torch.manual_seed(0)
    network, other = create_network(ours).eval(), timm.create_model(timms).eval()
    network.load_state_dict(other.state_dict())
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(network(x), other(x))


@pytest.mark.parametrize("name", ["resnext_50_32x4d", "resnet_29_1x16d_small"])
def test_without_residual_connections_there_is_no_shortcut_of_any_kind(name: str) -> None:
    plain, residual = on_meta(name, residual=False), on_meta(name)
    blocks = [block for block in plain.modules() if isinstance(block, Bottleneck)]
    shortcuts = [name for name in residual.state_dict() if "downsample" in name]
    assert len(blocks) in (16, 9)
    assert shortcuts
    assert residual.state_dict().keys() - plain.state_dict().keys() == set(shortcuts)


def test_without_residual_connections_a_silent_branch_silences_the_block() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 64, 8, 8)
    for residual in (False, True):
        network = create_network("resnext_29_4x6d_small", residual=residual).eval()
        block = network.layer1[1]
        nn.init.zeros_(block.bn3.weight)
        assert block(x).any().item() == residual


def test_without_residual_connections_a_block_is_its_branch() -> None:
    torch.manual_seed(0)
    network = create_network("resnext_29_4x6d_small", residual=False).eval()
    twin = create_network("resnext_29_4x6d_small").eval()
    twin.load_state_dict(network.state_dict(), strict=False)
    x = torch.randn(2, 64, 8, 8)
    for one in (network, twin):
        # Without the last activation the sum of branch and shortcut can be taken apart.
        one.layer1[1].act3 = nn.Identity()
    torch.testing.assert_close(network.layer1[1](x), twin.layer1[1](x) - x)
