"""The registered networks: sizes, rules and what timm's own tests ask of a network."""

import copy
import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fx_features import assert_fx_takes_features_out
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath, get_channel_dim
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn import functional as F

from lit_models.complexity import multiply_adds
from lit_models.official import official_state
from lit_models.parameter_free import OPERATIONS, EffLayer

COUNTS = json.loads((Path(__file__).parent / "golden" / "param_counts.json").read_text())
ROWS = {"pf_baseline_resnet50" if name == "resnet50" else name: name for name in COUNTS}
SMALL = [
    "pf_baseline_resnet50_cifar",
    "resnet50_max_cifar",
    "resnet50_hybrid_cifar",
    "vit_ti_cifar",
    "vit_ti_max_cifar",
    "bottlenecks_mnist",
]
# One for each way of building a network.
KINDS = ["resnet50_max", "resnet50_hybrid", "vit_ti_max", "pit_ti_max", *SMALL]
# The same with few layers, where weights are needed.
LITTLE: dict[str, dict[str, Any]] = {
    "resnet": {"layers": (1, 1, 1, 1), "channels": (4, 8, 16, 32)},
    "vit": {"depth": 4, "embed_dim": 24},
    "pit": {"depth": (2, 2, 2), "base_dims": (6, 6, 6)},
    "bottlenecks": {},
}


def on_meta(row: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(row, **options)


def little(row: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    kind = row.removeprefix("pf_baseline_").split("_")[0].rstrip("0123456789")
    return timm.create_model(row, **{**LITTLE[kind], **options})


def images(network: nn.Module, batch: int = 2, side: int = 64) -> Tensor:
    channels, *sides = network.default_cfg["input_size"]
    if not network.default_cfg.get("fixed_input_size"):
        sides = [min(side, each) for each in sides]
    return torch.randn(batch, channels, *sides)


@pytest.mark.parametrize("row", ROWS)
def test_networks_have_exactly_the_authors_parameters_and_multiply_adds(row: str) -> None:
    golden, network = COUNTS[ROWS[row]], on_meta(row)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    products = multiply_adds(network, (3, 224, 224))
    assert parameters == golden["all"]
    assert products == golden["fvcore_conv_linear_matmul"]
    if published := golden.get("published"):
        counted = {"millions": round(parameters / 1e6, 1), "gmacs": round(products / 1e9, 1)}
        assert counted == published


@pytest.mark.parametrize("row", ROWS)
def test_networks_have_the_authors_keys_and_shapes_in_order(row: str) -> None:
    entries = [[key, list(value.shape)] for key, value in official_state(on_meta(row)).items()]
    assert len(entries) == COUNTS[ROWS[row]]["state_entries"]
    compact = json.dumps(entries, separators=(",", ":")).encode()
    assert hashlib.sha256(compact).hexdigest() == COUNTS[ROWS[row]]["state_keys_sha256"]


@pytest.mark.parametrize("row", KINDS)
def test_every_parameter_learns_and_the_classes_are_counted(row: str) -> None:
    network = little(row, num_classes=42).train()
    y = network(images(network))
    assert y.shape == (2, 42)
    y.mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("row", KINDS)
def test_networks_come_apart_as_timms_do(row: str) -> None:
    network = little(row).eval()
    x = images(network, side=224, batch=1)
    with torch.inference_mode():
        features = network.forward_features(x)
        assert network.forward_head(features, pre_logits=True).shape == (1, network.num_features)
        torch.testing.assert_close(network.forward_head(features), network(x))
        pool_size = network.default_cfg["pool_size"]
        assert pool_size is None or features.shape[2:] == pool_size
        network.reset_classifier(0)
        assert network(x).shape == (1, network.head_hidden_size)
        network.reset_classifier(0, "")
        assert network(x).shape == features.shape
        network.reset_classifier(7, "avg")
        assert network(x).shape == (1, 7)
        assert network.get_classifier().out_features == 7


@pytest.mark.parametrize("row", KINDS)
def test_features_have_the_announced_channels_and_reductions(row: str) -> None:
    network = little(row, features_only=True).train()
    x = images(network, side=96)
    maps = network(x)
    axis = get_channel_dim(str(getattr(network.output_fmt, "value", "NCHW")))
    assert [feature.shape[axis] for feature in maps] == network.feature_info.channels()
    for feature, reduction in zip(maps, network.feature_info.reduction(), strict=True):
        side = x.shape[2] / reduction
        assert side / 2 < feature.shape[2] < side + 1


@pytest.mark.parametrize("row", KINDS)
def test_torch_fx_takes_features_out_with_all_their_parameters(row: str) -> None:
    network = little(row).eval()
    assert_fx_takes_features_out(network, images(network))


@pytest.mark.parametrize("row", KINDS)
def test_options_of_the_backbone_are_taken(row: str) -> None:
    network = little(row, in_chans=2, num_classes=5, drop_rate=0.2, drop_path_rate=0.1).train()
    network.set_grad_checkpointing(True)
    x = images(network)[:, :1].expand(-1, 2, -1, -1)
    network(x).mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert any(isinstance(module, DropPath) for module in network.modules())
    with pytest.raises(TypeError, match="no_option"):
        little(row, no_option=1)


@pytest.mark.parametrize("row", KINDS)
def test_a_copy_computes_the_same_by_itself(row: str) -> None:
    network = little(row).eval()
    x = images(network)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        y = copied(x)
        assert torch.equal(y, network(x))
        for module in copied.modules():
            assert module not in set(network.modules())
        for layer in (module for module in network.modules() if isinstance(module, EffLayer)):
            layer.grid_size = (1, 1)
        assert torch.equal(copied(x), y)


@pytest.mark.parametrize("row", ["resnet50_max", "vit_ti_max", "pit_ti_max"])
def test_layer_decay_goes_from_the_input_to_the_output(row: str) -> None:
    network = on_meta(row)
    layers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    assert layers.keys() == dict(network.named_parameters()).keys()
    if row == "pit_ti_max":
        order = ["patch_embed.conv.weight", "transformers.0.blocks.1.norm2.bias"]
        order += ["transformers.1.blocks.0.norm1.bias", "transformers.1.blocks.5.norm2.bias"]
        order += ["transformers.2.blocks.0.norm1.bias", "head.weight"]
        depths = [layers[name] for name in order]
        assert depths == sorted(set(depths))
        # A pool goes with the block before it.
        assert layers["pools.1.conv.bias"] == layers["transformers.1.blocks.5.norm2.bias"]


@pytest.mark.parametrize(
    ("row", "depth", "reached"),
    [("resnet50_hybrid", 16, 1), ("vit_ti_max", 12, 1), ("pit_ti_max", 12, 11 / 12)],
)
def test_drop_path_rises_from_block_to_block(row: str, depth: int, reached: float) -> None:
    network = on_meta(row, drop_path_rate=0.3)
    rates = [module.drop_prob for module in network.modules() if isinstance(module, DropPath)]
    rates = rates if row.startswith("resnet") else rates[::2]
    expected = [0.3 * reached * block / (depth - 1) for block in range(1, depth)]
    assert rates == pytest.approx(expected)


def test_resnets_start_as_torch_draws_them() -> None:
    for row in ("pf_baseline_resnet50", "resnet50_hybrid", "resnet50_max_cifar"):
        torch.manual_seed(0)
        network = timm.create_model(row)
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                # kaiming_uniform with a = sqrt(5)
                bound = module.weight[0].numel() ** -0.5
                assert module.weight.abs().max() <= bound
                assert module.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.weight.eq(1).all()


def test_linear_layers_of_vits_are_drawn_narrow_and_those_of_pits_as_torch_does() -> None:
    torch.manual_seed(0)
    vit, pit = timm.create_model("vit_ti_max"), timm.create_model("pit_ti_max")
    for network in (vit, pit):
        assert network.pos_embed.std().item() == pytest.approx(0.02, rel=0.05)
        for name, module in network.named_modules():
            if isinstance(module, nn.Linear):
                narrow = network is vit
                std = 0.02 if narrow else (3 * module.in_features) ** -0.5
                assert module.weight.std().item() == pytest.approx(std, rel=0.05), name
                assert module.bias.any() != narrow


def test_every_second_block_of_a_stage_has_an_eff_layer() -> None:
    vit, pit = on_meta("vit_ti_max"), on_meta("pit_b_max")
    assert [isinstance(block.attn, EffLayer) for block in vit.blocks] == [False, True] * 6
    stages = [
        [isinstance(block.attn, EffLayer) for block in stage.blocks] for stage in pit.transformers
    ]
    assert stages == [[False, True, False], [False, True] * 3, [False, True] * 2]


@settings(max_examples=15, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)), st.tuples(st.integers(1, 5), st.integers(1, 5))
)
def test_a_vits_grid_follows_its_images(first: tuple[int, int], second: tuple[int, int]) -> None:
    network = little("vit_ti_max", img_size=(16 * first[0], 16 * first[1])).eval()
    layer = network.blocks[3].attn
    assert network(torch.randn(1, 3, 16 * first[0], 16 * first[1])).isfinite().all()
    assert layer.grid_size == first
    network.set_input_size((16 * second[0], 16 * second[1]))
    assert network(torch.randn(1, 3, 16 * second[0], 16 * second[1])).isfinite().all()
    assert layer.grid_size == second


def test_a_dynamic_vit_takes_images_of_any_proportions() -> None:
    network = little("vit_ti_max", img_size=64, dynamic_img_size=True).eval()
    fixed = little("vit_ti_max", img_size=64).eval()
    fixed.load_state_dict(network.state_dict())
    fixed.set_input_size((32, 80))
    for network_size, other_size in (((32, 80), (64, 64)), ((32, 80), (80, 32))):
        network(torch.randn(1, 3, *other_size))
        x = torch.randn(2, 3, *network_size)
        torch.testing.assert_close(network(x), fixed(x))


def test_a_transposed_image_of_a_vit_gives_the_transposed_tokens() -> None:
    network = little("vit_ti_max", img_size=(32, 80), num_classes=0, global_pool="").eval()
    nn.init.zeros_(network.pos_embed)
    kernel = network.patch_embed.proj.weight
    with torch.no_grad():
        kernel.copy_((kernel + kernel.transpose(2, 3)) / 2)
    x = torch.randn(1, 3, 32, 80)
    tokens = network(x).unflatten(1, (2, 5))
    network.set_input_size((80, 32))
    turned = network(x.transpose(2, 3)).unflatten(1, (5, 2))
    torch.testing.assert_close(turned, tokens.transpose(1, 2))


@settings(max_examples=15, deadline=None)
@given(st.integers(16, 120), st.integers(16, 120))
def test_a_pit_takes_images_of_any_size(height: int, width: int) -> None:
    network = little("pit_ti_max").eval()
    x = torch.randn(1, 3, height, width)
    with torch.no_grad():
        assert network(x).isfinite().all()
    grid = [(height - 16) // 8 + 1, (width - 16) // 8 + 1]
    for stage in network.transformers:
        assert stage.blocks[1].attn.grid_size == tuple(grid)
        grid = [(side + 1) // 2 for side in grid]


def test_a_pits_positions_are_resized_bicubically_and_only_where_the_size_differs() -> None:
    network = little("pit_ti_max", img_size=64).eval()
    maps: list[Tensor] = []
    network.pos_drop.register_forward_hook(lambda module, inputs, output: maps.append(output))
    for side, positions in (
        (64, network.pos_embed),
        (96, F.interpolate(network.pos_embed, (11, 11), mode="bicubic")),
    ):
        x = torch.randn(1, 3, side, side)
        network(x)
        torch.testing.assert_close(maps.pop(), network.patch_embed(x) + positions)


@pytest.mark.parametrize("row", ["resnet50_max", "resnet50_hybrid"])
@pytest.mark.parametrize("side", [33, 72, 97])
def test_resnets_take_images_with_odd_maps(row: str, side: int) -> None:
    network = little(row).eval()
    maps = network.forward_features(torch.randn(1, 3, side, side + 20))
    plain = little("pf_baseline_resnet50").eval()
    assert maps.shape == plain.forward_features(torch.randn(1, 3, side, side + 20)).shape


@pytest.mark.parametrize("operation", OPERATIONS)
def test_small_networks_differ_in_the_operation_alone(operation: str) -> None:
    network = on_meta("bottlenecks_mnist", operation=operation)
    counts = {key: value.numel() for key, value in network.state_dict().items()}
    baseline = on_meta("bottlenecks_mnist").state_dict()
    assert counts.keys() <= baseline.keys()
    differing = [key for key in baseline if counts.get(key) != baseline[key].numel()]
    assert all(".conv2." in key or ".bn2." in key for key in differing)
    assert bool(differing) == (operation != "conv")


def test_no_weights_can_be_downloaded() -> None:
    with pytest.raises(ValueError, match="comes without weights"):
        timm.create_model("resnet50_max", pretrained=True)
