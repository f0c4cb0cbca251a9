"""GluonCV's networks: what they cost, how they differ from timm's, and what timm asks of them."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from experiments.compose import compose
from lit_models.complexity import count_parameters, multiply_adds
from lit_models.do_conv import DOConv2d, fuse, over_parameterise

REPOSITORY = Path(__file__).parents[3]
# Convolutions, those of them larger than 1x1, and 10^9 multiply-adds, counted on the definitions.
COSTS = {
    "plain_18": (17, 17, 1.795),
    "resnet_v1_18": (20, 17, 1.814),
    "resnet_v1_34": (36, 33, 3.664),
    "resnet_v1_50": (53, 17, 3.858),
    "resnet_v1_101": (104, 34, 7.570),
    "resnet_v1_152": (155, 51, 11.282),
    "resnet_v1b_18": (20, 17, 1.814),
    "resnet_v1b_34": (36, 33, 3.664),
    "resnet_v1b_50": (53, 17, 4.089),
    "resnet_v1b_101": (104, 34, 7.801),
    "resnet_v1b_152": (155, 51, 11.514),
    "resnet_v2_18": (20, 17, 1.814),
    "resnet_v2_34": (36, 33, 3.664),
    "resnet_v2_50": (53, 17, 4.089),
    "resnet_v2_101": (104, 34, 7.801),
    "resnet_v2_152": (155, 51, 11.514),
    "resnext_50_32x4d": (53, 17, 4.230),
    "mobilenet_v1": (27, 14, 0.569),
    "mobilenet_v2": (53, 18, 0.301),
    "mobilenet_v3_large": (64, 16, 0.217),
}
# The last layer of these is a 1x1 convolution in GluonCV, which is the same as a linear layer.
CONVOLUTIONAL_CLASSIFIER = ("mobilenet_v2", "mobilenet_v3_large")
# One for each way of building a network.
KINDS = [
    "gluoncv_plain18",
    "gluoncv_resnet18_v2",
    "gluoncv_resnet50_v1",
    "gluoncv_resnext50_32x4d",
    "gluoncv_mobilenet_v1",
    "gluoncv_mobilenet_v2",
    "gluoncv_mobilenet_v3_large",
]


def on_meta(name: str, **options: Any) -> Any:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def convolutions(network: nn.Module) -> list[nn.Conv2d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv2d)]


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def scattered(name: str, **options: Any) -> Any:
    """The network with norms and biases unlike those it starts with, in evaluation mode."""
    network = on_meta(name, **options).to_empty(device="cpu").eval()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim > 1:
            nn.init.kaiming_uniform_(tensor)
        elif tensor.ndim == 1:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return network


@pytest.mark.parametrize("row", COSTS)
def test_a_network_costs_what_its_definition_says_plain_and_over_parameterised(row: str) -> None:
    config = compose([REPOSITORY / f"configs/do_conv/imagenet/{row}.yaml"]).declared
    network = on_meta(config["model"]["init_args"]["backbone"])
    exact = json.loads((REPOSITORY / "tests/exact_parameters/do_conv.json").read_text())
    count, count_larger, billions = COSTS[row]
    assert count_parameters(network) == exact[f"do_conv/imagenet/{row}"]["training"]
    assert len(convolutions(network)) == count - (row in CONVOLUTIONAL_CLASSIFIER)
    assert round(multiply_adds(network, (3, 224, 224)) / 1e9, 3) == billions
    with torch.device("meta"):
        over_parameterise(network)
    assert count_parameters(network) == exact[f"do_conv/imagenet/{row}_do_conv"]["training"]
    layers = [conv for conv in convolutions(network) if isinstance(conv, DOConv2d)]
    assert len(layers) == count_larger
    assert all(conv.kernel_size == (1, 1) for conv in set(convolutions(network)) - set(layers))


class TestStructure:
    """What tells GluonCV's networks from timm's."""

    @pytest.mark.parametrize(
        ("ours", "timms"),
        [
            ("gluoncv_resnet50_v1b", "resnet50"),
            ("gluoncv_resnet18_v1b", "resnet18"),
            ("gluoncv_resnet18_v1", "resnet18"),
            ("gluoncv_resnext50_32x4d", "resnext50_32x4d"),
        ],
    )
    def test_v1b_and_resnext_and_the_basic_blocks_of_v1_are_timms(
        self, ours: str, timms: str
    ) -> None:
        theirs = scattered(timms)
        network = on_meta(ours).eval()
        network.load_state_dict(theirs.state_dict(), assign=True)
        x = torch.randn(1, 3, 64, 64)
        assert torch.equal(network(x), theirs(x))

    @pytest.mark.parametrize("depth", [50, 101, 152])
    def test_v1_bottlenecks_stride_first_and_have_biases_on_1x1(self, depth: int) -> None:
        network = on_meta(f"gluoncv_resnet{depth}_v1")
        for block in (network.layer2[0], network.layer4[0]):
            strides = [conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)]
            assert strides == [2, 1, 1]
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in stage:
                assert block.conv1.bias is not None
                assert block.conv2.bias is None
                assert block.conv3.bias is not None
        assert network.conv1.bias is None
        assert network.layer1[0].downsample[0].bias is None

    def test_v1b_bottlenecks_stride_in_the_3x3_and_have_no_biases(self) -> None:
        network = on_meta("gluoncv_resnet50_v1b")
        block = network.layer2[0]
        assert [conv.stride[0] for conv in (block.conv1, block.conv2, block.conv3)] == [1, 2, 1]
        assert all(conv.bias is None for conv in convolutions(network))

    def test_v2_activates_before_each_convolution_and_projects_the_activated_input(self) -> None:
        network = scattered("gluoncv_resnet50_v2")
        projecting, other = network.layer2[0], network.layer2[1]
        x = torch.randn(2, 256, 8, 8)

        def activated(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
            mean, variance = norm.running_mean, norm.running_var
            return F.batch_norm(maps, mean, variance, norm.weight, norm.bias).relu()

        for block, stride in ((projecting, 2), (other, 1)):
            start = activated(block.bn1, x)
            convs = block.branch
            maps = F.conv2d(start, convs.conv1.weight)
            maps = F.conv2d(activated(convs.bn2, maps), convs.conv2.weight, None, stride, 1)
            maps = F.conv2d(activated(convs.bn3, maps), convs.conv3.weight)
            shortcut = x
            if stride == 2:
                shortcut = F.conv2d(start, block.downsample.weight, None, 2)
            x = block(x)
            torch.testing.assert_close(x, shortcut + maps)

    def test_v2_normalises_the_image_without_parameters_and_the_features_with(self) -> None:
        network = timm.create_model("gluoncv_resnet18_v2").train()
        assert [name for name, _ in network.conv1.named_parameters()] == ["conv.weight"]
        x = torch.randn(4, 3, 64, 64)
        torch.testing.assert_close(network(5 * x + 2), network(x), rtol=1e-3, atol=1e-3)
        before = torch.randn(2, 512, 4, 4)
        after = network.layer4[-1](before)
        torch.testing.assert_close(after, F.batch_norm(before, None, None, training=True).relu())

    def test_plain_18_is_resnet_18_without_shortcuts(self) -> None:
        network = scattered("gluoncv_plain18")
        resnet = scattered("gluoncv_resnet18_v1")
        shapes = {key: value.shape for key, value in resnet.state_dict().items()}
        assert {key: value.shape for key, value in network.state_dict().items()} == {
            key: shape for key, shape in shapes.items() if "downsample" not in key
        }
        block = resnet.layer1[0]
        block.load_state_dict(network.layer1[0].state_dict())
        x = torch.randn(1, 64, 8, 8)
        branch = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
        torch.testing.assert_close(network.layer1[0](x.clone()), branch.relu())

    def test_a_plain_network_refuses_what_is_about_residual_branches(self) -> None:
        for options in ({"last_gamma": True}, {"drop_path_rate": 0.1}):
            with pytest.raises(ValueError, match="no residual branches"):
                timm.create_model("gluoncv_plain18", **options)

    def test_mobilenets_differ_from_timms_in_activation_and_biases(self) -> None:
        first, second = on_meta("gluoncv_mobilenet_v1"), on_meta("gluoncv_mobilenet_v2")
        assert {type(norm.act) for norm in norms(first)} == {nn.ReLU}
        assert {type(norm.act) for norm in norms(second)} == {nn.ReLU6, nn.Identity}
        assert second.classifier.bias is None
        third = on_meta("gluoncv_mobilenet_v3_large")
        assert third.conv_head.bias is None
        assert third.classifier.bias is not None
        hidden = [
            block.se.conv_reduce.out_channels
            for stage in third.blocks
            for block in stage
            if not isinstance(getattr(block, "se", nn.Identity()), nn.Identity)
        ]
        # A quarter of the block's inner width, rounded up to a multiple of 8.
        assert hidden == [24, 32, 32, 120, 168, 168, 240, 240]

    def test_the_classifier_of_mobilenet_v2_never_has_a_bias(self) -> None:
        network = on_meta("gluoncv_mobilenet_v2", num_classes=5)
        assert network.classifier.bias is None
        network.reset_classifier(0)
        network.reset_classifier(7)
        assert network.classifier.out_features == 7
        assert network.classifier.bias is None

    @pytest.mark.parametrize("name", KINDS)
    def test_norms_are_mxnets(self, name: str) -> None:
        assert {(norm.eps, norm.momentum) for norm in norms(on_meta(name))} == {(1e-5, 0.1)}


class TestStart:
    """Initialisation."""

    @pytest.mark.parametrize("name", ["gluoncv_resnet50_v1", "gluoncv_mobilenet_v2"])
    def test_kernels_are_normal_with_the_variance_of_both_fans(self, name: str) -> None:
        torch.manual_seed(0)
        network = timm.create_model(name)
        checked = 0
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                out, into, *size = module.weight.shape
                fans = (into + out) * torch.Size(size).numel()
                deviation = (2 / (1 + 0.25**2) / (fans / 2)) ** 0.5
                # Four standard errors of a normal sample's deviation.
                error = 4 / (2 * module.weight.numel()) ** 0.5
                assert module.weight.std().item() == pytest.approx(deviation, rel=error)
                assert module.bias is None or not module.bias.any()
                checked += 1
        assert checked > 50

    @pytest.mark.parametrize(
        "name", ["gluoncv_plain18", "gluoncv_resnet18_v1b", "gluoncv_resnet18_v2"]
    )
    def test_norms_start_at_one_and_zero(self, name: str) -> None:
        for norm in norms(timm.create_model(name)):
            assert not norm.affine or (norm.weight.eq(1).all() and not norm.bias.any())

    @pytest.mark.parametrize(
        ("name", "last"),
        [
            ("gluoncv_resnet18_v1", "bn2"),
            ("gluoncv_resnet50_v1", "bn3"),
            ("gluoncv_resnet18_v2", "branch.bn2"),
            ("gluoncv_resnext50_32x4d", "bn3"),
        ],
    )
    def test_last_gamma_starts_each_branch_at_zero_and_nothing_else(
        self, name: str, last: str
    ) -> None:
        network = timm.create_model(name, last_gamma=True)
        zero = [
            key
            for key, module in network.named_modules()
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.any()
        ]
        blocks = [
            f"layer{number}.{index}"
            for number in (1, 2, 3, 4)
            for index, _ in network.get_submodule(f"layer{number}").named_children()
            if index.isdigit()
        ]
        assert zero == [f"{block}.{last}" for block in blocks]


class TestOverParameterised:
    """DO-Conv in GluonCV's networks."""

    @pytest.mark.parametrize("name", KINDS)
    def test_they_compute_the_same_and_fuse_back_to_the_plain_network(self, name: str) -> None:
        plain = scattered(name, num_classes=10)
        x = torch.randn(2, 3, 32, 32)
        expected, shapes = plain(x), {k: v.shape for k, v in plain.state_dict().items()}
        network = over_parameterise(plain)
        assert any(isinstance(module, DOConv2d) for module in network.modules())
        torch.testing.assert_close(network(x), expected)
        for module in network.modules():
            if isinstance(module, DOConv2d):
                nn.init.normal_(module.D, std=0.01)
        fusion = fuse(network, x)
        assert fusion.difference is not None
        assert fusion.difference.relative < 1e-5
        assert {k: v.shape for k, v in fusion.network.state_dict().items()} == shapes
        again = on_meta(name, num_classes=10).eval()
        again.load_state_dict(fusion.network.state_dict(), assign=True)
        torch.testing.assert_close(again(x), fusion.network(x))
        assert not torch.allclose(again(x), expected)


class TestTimm:
    """What timm's own tests ask of a network, where it takes numbers to see."""

    @pytest.mark.parametrize("name", KINDS)
    def test_every_parameter_learns_and_the_classes_are_counted(self, name: str) -> None:
        network = timm.create_model(name, num_classes=42, in_chans=1, drop_rate=0.2).train()
        y = network(torch.randn(2, 1, 64, 64))
        assert y.shape == (2, 42)
        y.mean().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())

    @pytest.mark.parametrize("name", ["gluoncv_plain18", "gluoncv_resnet18_v2"])
    @pytest.mark.parametrize("options", [{}, {"feature_cls": "getter"}], ids=["default", "getter"])
    def test_features_have_the_announced_channels_and_sizes(
        self, name: str, options: dict[str, str]
    ) -> None:
        network = on_meta(name, features_only=True, **options)
        maps = network(torch.empty(1, 3, 64, 64, device="meta"))
        assert [feature.shape[1] for feature in maps] == network.feature_info.channels()
        assert [64 // feature.shape[2] for feature in maps] == network.feature_info.reduction()

    @pytest.mark.parametrize("name", ["gluoncv_plain18", "gluoncv_resnet18_v2"])
    def test_intermediate_features_end_in_the_features(self, name: str) -> None:
        network = timm.create_model(name).eval()
        x = torch.randn(1, 3, 64, 64)
        last, _ = network.forward_intermediates(x)
        torch.testing.assert_close(last, network.forward_features(x))

    @pytest.mark.parametrize("name", ["gluoncv_plain18", "gluoncv_resnet18_v2"])
    def test_torch_fx_takes_features_out(self, name: str) -> None:
        network = timm.create_model(name).eval()
        _, nodes = get_graph_node_names(network)
        graph = create_feature_extractor(network, [nodes[-1]])
        x = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(graph(x)[nodes[-1]], network(x))
        assert count_parameters(graph) == count_parameters(network)

    @pytest.mark.parametrize("name", KINDS)
    def test_every_parameter_is_in_one_group(self, name: str) -> None:
        network = on_meta(name)
        groups = group_parameters(network, network.group_matcher(coarse=False))
        named = [key for names in groups.values() for key in names]
        assert sorted(named) == sorted(key for key, _ in network.named_parameters())

    @pytest.mark.parametrize("name", ["gluoncv_plain18", "gluoncv_resnet18_v2"])
    def test_recomputed_activations_give_the_same_gradients(self, name: str) -> None:
        network = timm.create_model(name, num_classes=10).train()
        x = torch.randn(2, 3, 64, 64)
        gradients = []
        for recompute in (False, True):
            network.set_grad_checkpointing(recompute)
            network.zero_grad()
            network(x).square().mean().backward()
            gradients.append(next(network.parameters()).grad.clone())
        torch.testing.assert_close(*gradients)

    def test_the_last_stages_can_keep_their_resolution(self) -> None:
        network = on_meta("gluoncv_resnet50_v2", features_only=True, output_stride=8)
        maps = network(torch.empty(1, 3, 64, 64, device="meta"))
        assert [feature.shape[2] for feature in maps] == [32, 16, 8, 8, 8]

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(TypeError, match="cardinality"):
            timm.create_model("gluoncv_resnet50_v2", cardinality=2)

    def test_no_weights_can_be_downloaded(self) -> None:
        with pytest.raises(ValueError, match="comes without weights"):
            timm.create_model("gluoncv_resnet18_v1", pretrained=True)
