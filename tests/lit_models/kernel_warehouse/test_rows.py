"""The registered networks: sizes, rules and what timm's own tests ask of a network."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fx_features import assert_fx_takes_features_out
from timm.layers import DropPath, get_channel_dim
from timm.models import group_parameters
from torch import Tensor, nn

from lit_models.kernel_warehouse import KWLinear, kernel_layers, set_temperature, temperature
from lit_models.official import official_state

COUNTS = json.loads((Path(__file__).parent / "golden" / "param_counts.json").read_text())
ROWS = {name if name.startswith("kw") else f"kw_baseline_{name}": name for name in COUNTS}
# One for each way of building a network.
KINDS = [
    "kw1d2x_resnet18",
    "kw1d2x_resnet50",
    "kw1x_convnext_tiny",
    "kw1d2x_mobilenetv2_050",
    "kw1x_mobilenetv2_050",
    "kw1x_deit_tiny",
    "kw_baseline_resnet18",
    "kw_baseline_mobilenetv2_050",
]


def images(network: nn.Module, batch: int = 2, side: int = 64) -> Tensor:
    channels, *sides = network.default_cfg["input_size"]
    if not network.default_cfg.get("fixed_input_size"):
        sides = [side, side]
    return torch.randn(batch, channels, *sides)


def on_meta(row: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(row, **options)


@pytest.mark.parametrize("row", ROWS)
def test_rows_have_exactly_the_authors_parameters(row: str) -> None:
    golden = COUNTS[ROWS[row]]
    network = on_meta(row)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == golden["all"]
    if row != "kw1d4x_resnet18":  # published with 4.08 M
        assert round(parameters / 1e6, 2) == golden["published_millions"]


@pytest.mark.parametrize("row", ROWS)
def test_rows_have_the_authors_keys_and_shapes_in_order(row: str) -> None:
    entries = [[key, list(value.shape)] for key, value in official_state(on_meta(row)).items()]
    assert len(entries) == COUNTS[ROWS[row]]["state_entries"]
    compact = json.dumps(entries, separators=(",", ":")).encode()
    assert hashlib.sha256(compact).hexdigest() == COUNTS[ROWS[row]]["state_keys_sha256"]


@pytest.mark.parametrize(("ratio", "factor"), [("1x", 1), ("4x", 4)])
def test_deit_tiny_draws_all_linear_layers_of_its_blocks_from_one_warehouse(
    ratio: str, factor: int
) -> None:
    network = on_meta(f"kw{ratio}_deit_tiny")
    layers = list(kernel_layers(network))
    assert len(layers) == 48
    assert all(isinstance(layer, KWLinear) for layer in layers)
    (warehouse,) = {layer.warehouse for layer in layers}
    assert warehouse.cells.shape == (144 * factor, 192, 192, 1)


@pytest.mark.parametrize("row", KINDS)
def test_every_parameter_learns_and_the_classes_are_counted(row: str) -> None:
    network = timm.create_model(row, num_classes=42).train()
    y = network(images(network))
    assert y.shape == (2, 42)
    y.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("row", KINDS)
def test_networks_come_apart_as_timms_do(row: str) -> None:
    network = timm.create_model(row).eval()
    x = images(network, side=224, batch=1)
    with torch.inference_mode():
        maps = network.forward_features(x)
        assert network.forward_head(maps, pre_logits=True).shape == (1, network.head_hidden_size)
        torch.testing.assert_close(network.forward_head(maps), network(x))
        pool_size = network.default_cfg.get("pool_size")
        assert pool_size is None or maps.shape[2:] == pool_size
        network.reset_classifier(0)
        assert network(x).shape == (1, network.head_hidden_size)
        network.reset_classifier(7)
        assert network(x).shape == (1, 7)
        assert network.get_classifier().out_features == 7


@pytest.mark.parametrize("row", KINDS)
@pytest.mark.parametrize("options", [{}, {"feature_cls": "getter"}], ids=["default", "getter"])
def test_features_have_the_announced_channels(row: str, options: dict[str, str]) -> None:
    network = timm.create_model(row, features_only=True, **options).train()
    maps = network(images(network, side=96))
    channels = network.feature_info.channels()
    axis = get_channel_dim(str(getattr(network.output_fmt, "value", "NCHW")))
    assert [feature.shape[axis] for feature in maps] == channels


def test_feature_extractors_are_annealed_too() -> None:
    for options in ({}, {"feature_cls": "getter"}):
        network = timm.create_model("kw1d2x_resnet18", features_only=True, **options)
        set_temperature(network, 0.5)
        assert temperature(network) == 0.5


def test_intermediate_features_end_in_the_features() -> None:
    network = timm.create_model("kw1d2x_resnet18").eval()
    x = images(network)
    last, maps = network.forward_intermediates(x)
    torch.testing.assert_close(last, network.forward_features(x))
    assert [feature.shape[1] for feature in maps] == [64, 64, 128, 256, 512]


def test_torch_fx_takes_features_out_with_all_their_parameters() -> None:
    network = timm.create_model("kw1d2x_resnet18").eval()
    assert_fx_takes_features_out(network, images(network))


@pytest.mark.parametrize("row", KINDS)
def test_options_of_the_backbone_are_taken(row: str) -> None:
    network = timm.create_model(row, in_chans=1, num_classes=5, drop_rate=0.2, drop_path_rate=0.1)
    network.train().set_grad_checkpointing(True)
    x = images(network)[:, :1]
    network(x).mean().backward()
    drop_paths = [module for module in network.modules() if isinstance(module, DropPath)]
    assert drop_paths
    groups = group_parameters(network, network.group_matcher(coarse=False))
    named = [name for names in groups.values() for name in names]
    assert len(named) == len(list(network.parameters()))


def test_resnets_drop_every_block_at_the_same_rate() -> None:
    network = timm.create_model("kw1d2x_resnet18", drop_path_rate=0.1)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    assert rates == [0.1] * 8


def test_convnext_drops_later_blocks_more() -> None:
    network = on_meta("kw1x_convnext_tiny", drop_path_rate=0.3)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    assert len(rates) == 17
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.3)


def test_convnext_scales_have_four_axes_only_with_warehouses() -> None:
    assert on_meta("kw1x_convnext_tiny").stages[0].blocks[0].gamma.shape == (1, 96, 1, 1)
    assert on_meta("kw_baseline_convnext_tiny").stages[0].blocks[0].gamma.shape == (96,)


def test_the_dynamic_classifier_stays_dynamic_and_leaves_nothing_behind() -> None:
    network = timm.create_model("kw1d2x_mobilenetv2_050")
    set_temperature(network, 0.5)
    network.reset_classifier(20)
    assert isinstance(network.classifier, KWLinear)
    assert network.classifier.warehouse.cells.shape == (20, 20, 32, 1)
    assert network.classifier.attention.fc1.out_features == 40
    set_temperature(network, 0.25)
    assert network.classifier.warehouse.temperature.value == 0.25
    network.reset_classifier(0)
    assert not any("classifier" in key for key in network.state_dict())
    assert not any(
        "classifier" in key for key in on_meta("kw1d2x_mobilenetv2_050", num_classes=0).state_dict()
    )


def test_weights_start_as_the_authors_do() -> None:
    torch.manual_seed(0)
    network = timm.create_model("kw1d2x_resnet18")
    bound = 512**-0.5
    assert network.fc.weight.abs().max() <= bound
    assert network.fc.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert network.conv1.weight.std().item() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.03)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight.eq(1).all() for norm in norms)
    for row in ("kw_baseline_resnet18", "kw_baseline_mobilenetv2_050", "kw1x_mobilenetv2_050"):
        classifier = timm.create_model(row).get_classifier()
        assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert not classifier.bias.any()
    depthwise = timm.create_model("kw_baseline_mobilenetv2_050").blocks[5][1].conv_dw
    assert depthwise.weight.std().item() == pytest.approx((2 / (480 * 9)) ** 0.5, rel=0.05)


def test_settings_of_the_plan_can_be_changed_for_ablations() -> None:
    network = on_meta("kw1x_resnet18", cell_num_ratio=2, reduction=1 / 8)
    layer = network.layer4[1].conv1
    assert len(layer.warehouse.cells) == 54
    assert layer.attention.fc1.out_features == 64


def test_no_weights_can_be_downloaded() -> None:
    with pytest.raises(ValueError, match="comes without weights"):
        timm.create_model("kw1x_resnet18", pretrained=True)
