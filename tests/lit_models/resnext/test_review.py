"""The review's ResNeXt-50, against every line of its printed summary."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from lit_models.complexity import multiply_adds
from lit_models.registry import create_network
from lit_models.resnext.review import layer_table, row_values

TABLES = Path(__file__).parents[3] / "configs" / "tables"
TABLE: dict[str, Any] = yaml.safe_load((TABLES / "resnext_review_model_summary.yaml").read_text())
ROWS = {row["key"]: row for row in TABLE["rows"]}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.device("meta"):
        return create_network("resnext50_32x4d_biased")


def test_the_table_has_the_summarys_lines_in_its_order(network: nn.Module) -> None:
    assert list(layer_table(network)) == list(ROWS)


@pytest.mark.parametrize("key", ROWS)
def test_a_part_has_the_printed_parameters(key: str) -> None:
    assert row_values(ROWS[key]["variant"]) == ROWS[key]["values"]


def test_the_lines_add_up_to_the_whole(network: nn.Module) -> None:
    parts = layer_table(network)
    blocks = dict(
        zip(("conv2", "conv3", "conv4", "conv5"), TABLE["protocol"]["blocks"], strict=True)
    )
    total = sum(
        parameters * (blocks[key.partition("_")[0]] - 1 if key.endswith("other_block") else 1)
        for key, parameters in parts.items()
        if key != "total"
    )
    assert total == parts["total"] == TABLE["protocol"]["trainable"]


def test_maps_have_the_printed_sizes(network: nn.Module) -> None:
    sizes = {}
    names = {"conv1": "stem", "maxpool": "pool"}
    names |= {f"layer{number}": f"conv{number + 1}" for number in (1, 2, 3, 4)}
    hooks = [
        network.get_submodule(name).register_forward_hook(
            lambda _, __, y, part=part: sizes.update({part: y.shape[2]})
        )
        for name, part in names.items()
    ]
    batch = TABLE["protocol"]["output_shape"][0]
    assert list(network(torch.zeros(batch, 3, 224, 224, device="meta")).shape) == [2, 1000]
    for hook in hooks:
        hook.remove()
    assert sizes == TABLE["protocol"]["stage_output_sizes"]


def test_an_image_costs_the_printed_multiply_adds(network: nn.Module) -> None:
    billions = multiply_adds(network, (3, 224, 224)) / 1e9
    assert billions == pytest.approx(TABLE["protocol"]["mult_adds_g_per_image"], abs=0.005)
    assert billions == pytest.approx(1.217, abs=0.0005)


def test_the_parameters_take_the_printed_megabytes(network: nn.Module) -> None:
    megabytes = 4 * layer_table(network)["total"] / 1e6
    assert round(megabytes, 2) == TABLE["protocol"]["params_mb"]


def test_biases_are_in_stem_shortcuts_and_classifier_alone(network: nn.Module) -> None:
    biased = {
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None
    }
    assert biased == {"conv1", "fc", *(f"layer{number}.0.downsample.0" for number in (1, 2, 3, 4))}


def test_weights_start_as_the_review_says() -> None:
    torch.manual_seed(0)
    network = create_network("resnext50_32x4d_biased")
    for block in (network.layer1[0], network.layer3[5]):
        assert block.bn2.weight.eq(1).all()
        assert block.bn3.weight.eq(0).all()
    stem, shortcut = network.conv1, network.layer4[0].downsample[0]
    assert stem.weight.std().item() == pytest.approx((2 / (49 * 64)) ** 0.5, rel=0.03)
    assert shortcut.weight.std().item() == pytest.approx((2 / 2048) ** 0.5, rel=0.01)
