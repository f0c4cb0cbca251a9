import copy
import math

import pytest
import timm
import torch
from timm.layers import Conv2dSame, ScaledStdConv2d, StdConv2d
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from lit_models.do_conv import (
    DOConv2d,
    OutputDifference,
    fuse,
    hold_kernels,
    output_difference,
    over_parameterise,
    release_kernels,
)

# name: image size, and how many of its convolutions are larger than 1x1
NETWORKS = {
    "resnet18": (32, 17),
    "resnext50_32x4d": (32, 17),
    "mobilenetv2_035": (32, 18),
    "mobilenetv3_small_050": (32, 12),
    "tf_efficientnet_lite0": (32, 17),
    "convnext_atto": (32, 16),
    "regnetx_002": (32, 14),
    "repvgg_a0": (32, 22),
    "ghostnet_050": (32, 42),
    "hrnet_w18_small": (32, 65),
    "vit_tiny_patch16_224": (224, 1),
    "pit_ti_224": (224, 3),
    "coatnet_nano_rw_224": (224, 9),
    "nfnet_l0": (32, 28),
    "resnetv2_50x1_bit": (32, 17),
    "levit_128s": (224, 4),
    "fastvit_t8": (64, 29),
    "inception_v3": (96, 54),
    "densenet121": (32, 59),
    "mobilevit_xxs": (64, 14),
}


def convolutions(network: nn.Module) -> list[DOConv2d]:
    return [module for module in network.modules() if isinstance(module, DOConv2d)]


def train_a_little(network: nn.Module) -> nn.Module:
    """Move every D away from zero."""
    for layer in convolutions(network):
        if layer.D is not None:
            nn.init.normal_(layer.D, std=0.1 / layer.D.shape[1])
    return network


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {key: tensor.shape for key, tensor in network.state_dict().items()}


def types(network: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in network.named_modules()}


def small_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 1)),
    )


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize("name", NETWORKS)
def test_any_network_computes_the_same_over_parameterised_and_fused(name: str) -> None:
    size, count = NETWORKS[name]
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=4).eval()
    plain_types, plain_shapes = types(network), shapes(network)
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = network(images)
        over_parameterise(network)
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)
        assert len(convolutions(network)) == count

        train_a_little(network)
        moved = network(images)
        fusion = fuse(network, images)

    assert fusion.difference is not None
    assert fusion.difference.relative < 1e-5
    assert (moved - expected).abs().max() > 1e-4 * expected.abs().max()
    assert len(fusion.replaced) == count
    assert types(fusion.network) == plain_types
    assert shapes(fusion.network) == plain_shapes


def test_the_convolutions_of_timm_that_pad_or_standardise_are_over_parameterised() -> None:
    for name, kind in (
        ("tf_efficientnet_lite0", Conv2dSame),
        ("nfnet_l0", ScaledStdConv2d),
        ("resnetv2_50x1_bit", StdConv2d),
    ):
        with torch.device("meta"):
            network = over_parameterise(timm.create_model(name))
        assert any(isinstance(layer, kind) for layer in convolutions(network))


def test_convolutions_larger_than_1x1_are_replaced_in_place() -> None:
    network = small_network()
    assert over_parameterise(network, depth_multiplier=11) is network
    assert [type(m) for m in (network[0], network[2][1], network[2][2])] == [
        DOConv2d,
        DOConv2d,
        nn.Conv2d,
    ]
    assert {layer.depth_multiplier for layer in convolutions(network)} == {11}


def test_include_chooses_by_name_and_convolution() -> None:
    network = over_parameterise(small_network(), include=lambda _, conv: conv.groups > 1)
    assert [name for name, m in network.named_modules() if isinstance(m, DOConv2d)] == ["2.1"]
    network = over_parameterise(small_network(), include=lambda name, _: name == "0")
    assert [name for name, m in network.named_modules() if isinstance(m, DOConv2d)] == ["0"]


def test_a_network_with_nothing_to_replace_is_refused() -> None:
    for network in (nn.Sequential(nn.Conv2d(3, 4, 1)), over_parameterise(small_network())):
        with pytest.raises(ValueError, match="nothing to over-parameterise"):
            over_parameterise(network)


def test_a_depth_multiplier_below_a_kernels_area_names_the_layer_and_changes_nothing() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 7)))
    with pytest.raises(ValueError, match=r"cannot over-parameterise 1\.0: depth_multiplier is 9"):
        over_parameterise(network, depth_multiplier=9)
    assert not convolutions(network)


def test_a_lazy_convolution_is_refused_until_it_has_run() -> None:
    network = nn.Sequential(nn.LazyConv2d(4, 3))
    with pytest.raises(ValueError, match="cannot over-parameterise 0: a lazy convolution"):
        over_parameterise(network)
    network(torch.randn(1, 3, 5, 5))
    assert convolutions(over_parameterise(network))


def test_a_convolution_is_a_network_too(images: Tensor) -> None:
    conv = nn.Conv2d(3, 4, 3)
    layer = over_parameterise(conv)
    assert isinstance(layer, DOConv2d)
    fusion = fuse(layer, images)
    assert type(fusion.network) is nn.Conv2d
    assert fusion.replaced == ("",)
    assert torch.equal(fusion.network(images), conv(images))


@pytest.mark.parametrize(
    "computed",
    [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm],
)
def test_a_convolution_whose_kernel_is_computed_stays_as_it_is(computed, images: Tensor) -> None:
    network = nn.Sequential(computed(nn.Conv2d(3, 4, 3)), nn.Conv2d(4, 4, 3)).eval()
    expected = network(images)
    over_parameterise(network)
    assert [type(module) is DOConv2d for module in network] == [False, True]
    torch.testing.assert_close(network(images), expected)


def test_a_shared_convolution_stays_shared_over_and_back(images: Tensor) -> None:
    conv = nn.Conv2d(3, 3, 3, padding=1)
    network = nn.Sequential(conv, nn.Sequential(nn.ReLU(), conv))
    expected = network(images)
    over_parameterise(network)
    assert network[0] is network[1][1]
    torch.testing.assert_close(network(images), expected)
    fusion = fuse(network)
    assert fusion.replaced == ("0", "1.1")
    assert fusion.network[0] is fusion.network[1][1]


def tied_network() -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3, stride=2))
    network[1].weight, network[1].bias = network[0].weight, network[0].bias
    return network


def test_convolutions_with_a_common_kernel_keep_it_common_over_and_back() -> None:
    network = over_parameterise(tied_network(), depth_multiplier=12)
    first, second = network
    assert first.W is second.W
    assert first.D is second.D
    assert first.bias is second.bias
    fused = fuse(train_a_little(network)).network
    assert fused[0].weight is fused[1].weight
    assert fused[0].bias is fused[1].bias
    assert torch.equal(fused[0].weight, first.weight)


def test_a_kernel_that_is_needed_as_it_is_elsewhere_stays() -> None:
    with pytest.raises(ValueError, match="nothing"):
        over_parameterise(tied_network(), include=lambda name, _: name == "0")
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ConvTranspose2d(3, 3, 3))
    network[1].weight = network[0].weight
    with pytest.raises(ValueError, match="nothing"):
        over_parameterise(network)


def test_frozen_layers_stay_frozen_over_and_back() -> None:
    network = small_network()
    network[0].requires_grad_(False)
    over_parameterise(network)
    assert not any(parameter.requires_grad for parameter in network[0].parameters())
    assert all(parameter.requires_grad for parameter in network[2].parameters())
    fused = fuse(network).network
    assert not any(parameter.requires_grad for parameter in fused[0].parameters())
    assert all(parameter.requires_grad for parameter in fused[2].parameters())


def test_parameters_are_counted_without_memory() -> None:
    with torch.device("meta"):
        network = timm.create_model("resnet18")
    plain = sum(parameter.numel() for parameter in network.parameters())
    extra = sum(
        conv.in_channels * math.prod(conv.kernel_size) ** 2
        for conv in network.modules()
        if isinstance(conv, nn.Conv2d) and conv.kernel_size != (1, 1)
    )
    over_parameterise(network)
    assert sum(parameter.numel() for parameter in network.parameters()) == plain + extra
    assert sum(parameter.numel() for parameter in fuse(network).network.parameters()) == plain
    assert all(parameter.is_meta for parameter in network.parameters())


def test_fusing_makes_a_copy_in_evaluation_mode_and_leaves_the_network_alone(
    images: Tensor,
) -> None:
    network = train_a_little(over_parameterise(small_network()))
    network[1].eval()
    modes = {name: module.training for name, module in network.named_modules()}
    state = copy.deepcopy(network.state_dict())

    fusion = fuse(network, images)

    assert not any(module.training for module in fusion.network.modules())
    assert {name: module.training for name, module in network.named_modules()} == modes
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert len(convolutions(network)) == 2
    for parameter in fusion.network.parameters():
        nn.init.zeros_(parameter)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_fusing_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to fuse"):
        fuse(small_network())


def test_a_layer_put_in_by_hand_is_fused_1x1_included() -> None:
    fusion = fuse(nn.Sequential(DOConv2d(3, 4, 1), DOConv2d(4, 4, 3)))
    assert fusion.replaced == ("0", "1")
    assert fusion.difference is None
    assert [type(module) for module in fusion.network] == [nn.Conv2d, nn.Conv2d]


def test_hooks_outlive_both_operations(images: Tensor) -> None:
    network = small_network().eval()
    calls: list[nn.Module] = []
    network[0].register_forward_hook(lambda module, *_: calls.append(module))
    over_parameterise(network)(images)
    fused = fuse(network).network
    fused(images)
    assert calls == [network[0], fused[0]]


def test_timm_finds_the_fuse_method_beside_its_own(images: Tensor) -> None:
    network = train_a_little(over_parameterise(small_network().eval()))
    fused = reparameterize_model(network)
    assert not convolutions(fused)
    assert torch.equal(fused(images), network(images))
    # RepVGG's own re-parameterisation reads the folded kernels.
    network = train_a_little(over_parameterise(timm.create_model("repvgg_a0").eval()))
    images = torch.randn(1, 3, 32, 32)
    fused = reparameterize_model(network)
    assert not convolutions(fused)
    torch.testing.assert_close(fused(images), network(images), rtol=1e-4, atol=1e-5)


def test_plain_weights_are_read_into_an_over_parameterised_network(images: Tensor) -> None:
    plain, network = small_network().eval(), over_parameterise(small_network()).eval()
    network.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(network(images), plain(images))


class TestOutputDifference:
    """`OutputDifference` and `output_difference`."""

    def test_it_is_measured_in_evaluation_mode_and_leaves_the_mode_alone(
        self, images: Tensor
    ) -> None:
        one, other = small_network(), small_network()
        other.load_state_dict(one.state_dict())
        with torch.no_grad():
            other[2][2].bias += 0.5
        expected = copy.deepcopy(one).eval()(images).abs().max().item()
        statistics = one[1].running_mean.clone()

        difference = output_difference(one, other, images)

        assert difference.absolute == pytest.approx(0.5, rel=1e-5)
        assert difference.relative == pytest.approx(0.5 / expected, rel=1e-5)
        assert one.training
        assert other.training
        assert torch.equal(one[1].running_mean, statistics)

    def test_nests_of_outputs_are_compared_leaf_by_leaf(self) -> None:
        expected = {"a": torch.tensor([1.0, -4.0]), "b": [torch.zeros(2, 2), None]}
        obtained = {"a": torch.tensor([1.0, -4.0]), "b": [torch.full((2, 2), 2.0), None]}
        assert OutputDifference(0, 0).widened(expected, obtained) == (2.0, 0.5)

    def test_the_larger_of_each_number_is_kept(self) -> None:
        assert OutputDifference(1, 4).joined(OutputDifference(3, 2)) == (3, 4)
        widened = OutputDifference(0, 0.9).widened(torch.tensor([2.0]), torch.tensor([3.0]))
        assert widened == (1.0, 0.9)

    def test_a_difference_that_is_not_a_number_is_never_lost(self) -> None:
        nan = OutputDifference(0, 0).widened(torch.zeros(1), torch.tensor([math.nan]))
        for joined in (nan.joined(OutputDifference(1, 1)), OutputDifference(1, 1).joined(nan)):
            assert all(math.isnan(number) for number in joined)

    def test_outputs_of_zeros_do_not_differ(self) -> None:
        assert OutputDifference(0, 0).widened(torch.zeros(3), torch.zeros(3)) == (0, 0)


def test_kernels_are_held_for_all_layers_until_released(images: Tensor) -> None:
    network = train_a_little(over_parameterise(small_network())).eval()
    with torch.no_grad():
        expected = network(images)
        hold_kernels(network)
        for layer in convolutions(network):
            layer.W.zero_()
        assert torch.equal(network(images), expected)
        release_kernels(network)
        assert not torch.allclose(network(images), expected)
