"""Warehouses, cells and starting assignments of whole networks, against the authors' own."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from lit_models.kernel_warehouse import KWLinear, kernel_layers
from lit_models.kernel_warehouse.attention import initial_assignment
from lit_models.kernel_warehouse.layers import KWConv
from lit_models.kernel_warehouse.weights import authors_keys

FOLDER = Path(__file__).parent / "golden" / "structure"
STRUCTURES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def structure_of(row: str) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(row)


def authors_modules(network: nn.Module, kinds: Any) -> dict[str, nn.Module]:
    """The modules of some kinds by the authors' names, in the authors' order."""
    theirs = {ours: key for key, ours in authors_keys(network).items()}
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, kinds):
            leaf = "attention.fc1.weight" if isinstance(module, KWConv) else "weight"
            found[theirs[f"{name}.{leaf}"].removesuffix(f".{leaf}")] = module
    order = list(authors_keys(network))
    return dict(
        sorted(
            found.items(),
            key=lambda item: next(
                i for i, key in enumerate(order) if key.startswith(item[0] + ".")
            ),
        )
    )


def facts_of(layer: KWConv, warehouses: list[Any]) -> dict[str, Any]:
    shelf = layer.attention.shelf
    facts = {
        "type": "KWConv1d" if isinstance(layer, KWLinear) else type(layer).__name__,
        "warehouse": warehouses.index(layer.warehouse),
        "first_cell": shelf.first_cell,
        "num_cells": shelf.num_cells,
        "groups_spatial": shelf.groups_spatial,
        "groups_out": shelf.groups_out,
        "groups_in": shelf.groups_in,
        "mixtures": shelf.mixtures,
        "coefficients_per_mixture": layer.attention.num_cells + 1,
        "attention_hidden": layer.attention.fc1.out_features,
        "has_bias": layer.bias is not None,
        "shape": list(shelf.kernel),
        "stride": list(layer.stride),
        "padding": list(layer.padding),
        "dilation": list(layer.dilation),
        "groups": layer.groups,
    }
    if layer.attention.num_basis:
        facts["num_basis"] = layer.attention.num_basis
    return facts


def flat_assignment(layer: KWConv) -> list[int]:
    """Zeros and ones for every mixture and cell, the all-zero cell last, as the authors keep it."""
    assigned = dict(initial_assignment(layer.attention.shelf))
    width = layer.attention.num_cells + 1
    flat = [0] * (layer.attention.shelf.mixtures * width)
    for mixture in range(layer.attention.shelf.mixtures):
        flat[mixture * width + assigned.get(mixture, width - 1)] = 1
    return flat


@pytest.mark.parametrize("row", STRUCTURES)
def test_layers_have_the_authors_place_in_the_authors_warehouses(row: str) -> None:
    golden = STRUCTURES[row]
    network = structure_of(row)
    layers = authors_modules(network, KWConv)
    warehouses = list(dict.fromkeys(layer.warehouse for layer in layers.values()))
    assert list(layers) == [facts["name"] for facts in golden["kw_layers"]]
    for layer, facts in zip(layers.values(), golden["kw_layers"], strict=True):
        expected = {
            key: value
            for key, value in facts.items()
            if key not in ("name", "init_std", "temp_bias_sha256", "temp_bias_ones")
        }
        assert facts_of(layer, warehouses) == expected, facts["name"]
        deviation = layer.warehouse.deviation(layer.attention.shelf)
        assert deviation == pytest.approx(facts["init_std"], rel=1e-6)


@pytest.mark.parametrize("row", STRUCTURES)
def test_initial_assignments_are_the_authors(row: str) -> None:
    layers = authors_modules(structure_of(row), KWConv).values()
    for layer, facts in zip(layers, STRUCTURES[row]["kw_layers"], strict=True):
        flat = bytes(flat_assignment(layer))
        assert hashlib.sha256(flat).hexdigest() == facts["temp_bias_sha256"], facts["name"]


@pytest.mark.parametrize("row", STRUCTURES)
def test_warehouses_come_in_the_authors_order(row: str) -> None:
    network = structure_of(row)
    state = network.state_dict()
    cells = [
        list(state[ours].shape)
        for key, ours in authors_keys(network).items()
        if key.startswith("warehouse_manager")
    ]
    assert cells == [warehouse["shape"] for warehouse in STRUCTURES[row]["warehouses"]]


@pytest.mark.parametrize("row", STRUCTURES)
def test_the_same_layers_stay_static(row: str) -> None:
    network = structure_of(row)
    static = {
        name: [type(module).__name__, list(module.weight.shape)]
        for name, module in authors_modules(network, nn.Conv2d | nn.Linear).items()
        if ".attention." not in name
    }
    assert static == {entry[0]: entry[1:3] for entry in STRUCTURES[row]["static_layers"]}


def test_the_buffer_holds_the_initial_assignment() -> None:
    network = timm.create_model("kw1d2x_resnet18")
    for layer in kernel_layers(network):
        assignment = layer.attention.assignment.int()
        zero_cell = 1 - assignment.sum(dim=1, keepdim=True)
        flat = torch.cat([assignment, zero_cell], dim=1).flatten().tolist()
        assert flat == flat_assignment(layer)


def test_own_cells_are_drawn_with_hes_rule_for_each_layer() -> None:
    torch.manual_seed(0)
    network = timm.create_model("kw1x_resnet18")
    for layer in kernel_layers(network):
        shelf = layer.attention.shelf
        own = layer.warehouse.cells[shelf.first_cell : shelf.first_cell + shelf.num_cells]
        deviation = layer.warehouse.deviation(shelf)
        assert own.std().item() == pytest.approx(deviation, rel=0.03)
        assert own.mean().item() == pytest.approx(0, abs=deviation * 0.03)
