import warnings

import pytest
import timm
import torch
from torch import Tensor, nn

from lit_models.kernel_warehouse import (
    KWConv2d,
    KWLinear,
    kernel_layers,
    set_temperature,
    warehouse_network,
)
from lit_models.kernel_warehouse.observation import divide, observe, skeleton

# Of very different build; all are small.
BACKBONES = [
    "resnet10t",
    "regnety_002",
    "mobilenetv3_small_050",
    "lcnet_035",
    "ghostnet_050",
    "convnextv2_atto",
    "densenet121",
    "tf_efficientnetv2_b0",
    "mobilevit_xxs",
    "edgenext_xx_small",
    "pvt_v2_b0",
    "vit_tiny_patch16_224",
    "levit_128s",
    "eva02_tiny_patch14_224",
]


def on_meta(backbone: str, **options: object) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(backbone, **options)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(("backbone", "ratio"), zip(BACKBONES, [1, 0.5] * 7, strict=True))
def test_a_backbone_runs_and_learns_with_warehouses(backbone: str, ratio: float) -> None:
    network = warehouse_network(timm.create_model(backbone, num_classes=3), cell_num_ratio=ratio)
    facts = network.default_cfg
    side = facts["input_size"][1] if facts.get("fixed_input_size") else 64
    x = torch.randn(2, 3, side, side)
    set_temperature(network.train(), 0.5)
    y = network(x)
    y.square().mean().backward()
    assert y.shape == (2, 3)
    assert y.isfinite().all()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("backbone", ["resnet18", "swin_tiny_patch4_window7_224", "mixer_s32_224"])
def test_layers_are_dynamic_or_said_to_be_static(backbone: str) -> None:
    plain = on_meta(backbone)
    kernels = {
        name for name, module in plain.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)
    }
    network = warehouse_network(on_meta(backbone))
    dynamic = {
        name for name, module in network.named_modules() if module in set(kernel_layers(network))
    }
    assert dynamic | network.static_kernels.keys() == kernels
    assert not dynamic & network.static_kernels.keys()
    assert dynamic == {name for entry in network.plan for name in entry.modules}


def test_reasons_are_given_for_static_kernels() -> None:
    backbones = (
        "seresnet33ts",
        "swinv2_tiny_window8_256",
        "eva02_tiny_patch14_224",
        "tf_mobilenetv3_small_100",
    )
    networks = [warehouse_network(on_meta(backbone)) for backbone in backbones]
    assert {reason for network in networks for reason in network.static_kernels.values()} == {
        "it is the classifier",
        "it works on a single vector of each sample",
        "the first axis of its input is not the batch",
        "it is not called, only its weight is used",
        "it is a Conv2dSame, not a plain convolution or linear layer",
    }


@pytest.mark.parametrize(("sharing", "warehouses"), [("stage", 5), ("block", 9), ("none", 20)])
def test_the_sharing_range_is_kept(sharing: str, warehouses: int) -> None:
    network = warehouse_network(on_meta("resnet18"), sharing=sharing)
    assert len({layer.warehouse for layer in kernel_layers(network)}) == warehouses


def test_a_transformer_is_one_stage() -> None:
    network = warehouse_network(on_meta("deit_tiny_patch16_224"))
    linears = [layer for layer in kernel_layers(network) if isinstance(layer, KWLinear)]
    assert len(linears) == 48
    assert len({layer.warehouse for layer in linears}) == 1
    assert all(isinstance(layer.attention.norm1, nn.LayerNorm) for layer in linears)


def test_layers_may_be_left_out() -> None:
    network = warehouse_network(
        on_meta("resnet18"), include=lambda name, module: name.startswith("layer4")
    )
    assert all(name.startswith("layer4") for entry in network.plan for name in entry.modules)
    assert network.static_kernels["layer1.0.conv1"] == "it is not included"


def test_kernels_of_many_positions_are_not_cut_along_them() -> None:
    patches = warehouse_network(on_meta("vit_tiny_patch16_224")).patch_embed.proj
    assert patches.warehouse.cells.shape == (1, 192, 3, 16, 16)


@pytest.mark.parametrize(
    ("backbone", "wished"),
    [("resnet18", 1), ("resnet18", 4), ("vgg11", 0.25), ("deit_tiny_patch16_224", 0.4)],
)
def test_a_budget_finds_its_ratio(backbone: str, wished: float) -> None:
    network = on_meta(backbone)
    before = parameters(network)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warehouse_network(network, parameter_ratio=wished)
    assert parameters(network) / before == pytest.approx(wished, rel=0.1)
    assert len({entry.cell_num_ratio for entry in network.plan}) == 1


def test_no_other_ratio_comes_nearer() -> None:
    sizes = {
        ratio: parameters(warehouse_network(on_meta("resnet18"), cell_num_ratio=ratio))
        for ratio in (1, 2, 3, 4, 5)
    }
    wished = 2.1 * parameters(on_meta("resnet18"))
    network = warehouse_network(on_meta("resnet18"), parameter_ratio=2.1)
    assert parameters(network) == min(sizes.values(), key=lambda size: abs(size - wished))


def test_a_budget_out_of_reach_is_said_to_be() -> None:
    with pytest.warns(UserWarning, match="parameter_ratio 0.1 is out of reach: the nearest is"):
        warehouse_network(on_meta("mobilenetv3_small_050"), parameter_ratio=0.1)


def test_where_parameters_are_to_be_saved_no_warehouse_costs_more_than_its_kernels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = warehouse_network(on_meta("mobilenetv2_100"), parameter_ratio=0.5)
    assert "a warehouse would save nothing" in network.static_kernels.values()
    assert parameters(network) < parameters(on_meta("mobilenetv2_100"))


class Tall(nn.Module):
    """Not timm's: paths for names, one channel, no facts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 1)) for _ in range(2)
        )
        self.head = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x.mean((2, 3)))


def test_a_foreign_network_is_divided_by_its_names() -> None:
    stages, blocks = divide(Tall())
    assert stages["stem"] == "stem"
    assert stages["stages.1.0"] == "stages.1"
    assert blocks["stages.1.0"] == "stages.1.0"
    network = warehouse_network(Tall())
    assert [entry.modules for entry in network.plan] == [
        ("stem",),
        ("stages.0.0", "stages.0.1"),
        ("stages.1.0", "stages.1.1"),
    ]
    assert network.static_kernels == {"head": "it works on a single vector of each sample"}


def test_looking_at_a_network_does_not_touch_it() -> None:
    network = Tall().train()
    before = [parameter.clone() for parameter in network.parameters()]
    inputs = observe(network, (1, 12, 10))
    assert inputs["stem"].positions == 120
    assert network.training
    assert not any(module._forward_pre_hooks for module in network.modules())
    assert all(map(torch.equal, before, network.parameters()))
    assert all(parameter.is_meta for parameter in skeleton(network).parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell_num_ratio": 1, "parameter_ratio": 1}, "give cell_num_ratio or parameter_ratio"),
        ({"sharing": "layer"}, "sharing is 'layer'; it must be 'stage', 'block' or 'none'"),
        ({"cell_num_ratio": 1.5}, "no kernel of Tall can be replaced: cell_num_ratio 1.5"),
        ({"cell_num_ratio": 0}, "no kernel of Tall can be replaced: cell_num_ratio 0"),
        ({"parameter_ratio": 0}, "parameter_ratio is 0; it must be above 0"),
        ({"cell_inplane_ratio": 0}, "cell_inplane_ratio is 0; it must be above 0"),
        ({"include": lambda name, module: False}, "can be replaced: it is not included"),
        ({"input_size": (2, 8, 8)}, r"Tall takes no image of the size \(2, 8, 8\)"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        warehouse_network(Tall(), **options)
    assert "\n" not in str(error.value)


def test_a_network_without_plain_kernels_is_refused() -> None:
    with pytest.raises(
        ValueError, match="no kernel of NormFreeNet can be replaced: it is a Scaled"
    ):
        warehouse_network(on_meta("nf_resnet26"))


def test_weights_of_the_backbone_that_stay_static_are_kept() -> None:
    backbone = timm.create_model("resnet10t", num_classes=3)
    head = backbone.fc.weight.clone()
    network = warehouse_network(backbone)
    assert network is backbone
    assert torch.equal(network.fc.weight, head)
    assert isinstance(network.layer1[0].conv1, KWConv2d)
