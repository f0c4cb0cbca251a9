"""Layers and networks against numbers of the authors' own code; weights follow from a rule."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from golden_numbers import assert_agrees, assert_gradients_agree, draw, input_of
from torch import Tensor, nn

from lit_models.kernel_warehouse import install, kernel_layers, make_plan, set_temperature
from lit_models.kernel_warehouse.mixture import assemble_kernels, mix
from lit_models.kernel_warehouse.weights import authors_keys
from lit_models.official import load_official, official_state

GOLDEN = Path(__file__).parent / "golden"
LAYERS = {path.stem: json.loads(path.read_text()) for path in sorted(GOLDEN.glob("kwl_*.json"))}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "base_resnet18": ("kw_baseline_resnet18", {}),
    "base_convnext_tiny": ("kw_baseline_convnext_tiny", {}),
    "kw1x_resnet18": ("kw1x_resnet18", {}),
    "kw1d2x_mobilenetv2_100": ("kw1d2x_mobilenetv2_100", {}),
    "kw_convnext_reduced": (
        "kw1x_convnext_tiny",
        {"num_classes": 10, "depths": (1, 1, 2, 1), "dims": (16, 32, 64, 128)},
    ),
}
CASES = {name: json.loads((GOLDEN / f"{name}.json").read_text()) for name in NETWORKS}
MODULES = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d}


def keys_of(case: dict[str, Any]) -> list[list[Any]]:
    if "state" in case:
        return case["state"]
    return json.loads(gzip.decompress((GOLDEN / case["state_file"]).read_bytes()))


class Chain(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def plain(layer_type: str = "conv2d", **reserved: Any) -> nn.Module:
    channels = reserved.pop("in_planes"), reserved.pop("out_planes")
    reserved.pop("warehouse_name", None)
    if layer_type == "linear":
        return nn.Linear(*channels, bias=reserved["bias"])
    return MODULES[layer_type](*channels, **reserved)


def layers_of(case: dict[str, Any]) -> nn.Module:
    """A chain of plain layers with the case's plan put into effect."""
    settings = dict(case["official"]["manager"])
    norm = "layer" if settings.pop("norm_layer", None) == "LayerNorm" else "batch"
    settings.pop("sharing_range")
    network = Chain([plain(**reserved) for reserved in case["official"]["reserve"]])
    # The authors' linear layer is called after the convolution inside it.
    draws_from = {
        layer["name"].removesuffix(".conv"): f"warehouse {layer['warehouse']}"
        for layer in case["kw_layers"]
    }
    install(network, make_plan(draws_from, norm, **settings))
    return network


def prepare(network: nn.Module, case: dict[str, Any], run: dict[str, Any]) -> Tensor:
    state = {key: draw(key, shape) for key, shape in keys_of(case)}
    for key, factor in run.get("gain", {}).items():
        state[key] = state[key] * np.float32(factor)
    load_official(network, state)
    network.train(run["mode"] == "train").to(getattr(torch, run["dtype"]))
    if run.get("temperature") is not None:
        set_temperature(network, run["temperature"])
    return input_of(case, run["dtype"])


def assert_run_agrees(network: nn.Module, x: Tensor, run: dict[str, Any]) -> None:
    y = network(x)
    assert_agrees(y, run["output"])
    loss = y.square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], rel=1e-3)
    ours = {name: parameter.grad for name, parameter in network.named_parameters()}
    theirs = {key: ours[name] for key, name in authors_keys(network).items() if name in ours}
    assert_gradients_agree({"<input>": x.grad} | theirs, run["grad_l2"])


@pytest.mark.parametrize("name", LAYERS)
def test_layers_agree_with_the_authors_code(name: str) -> None:
    case = LAYERS[name]
    for run in case["runs"]:
        network = layers_of(case)
        x = prepare(network, case, run)
        recorded: list[tuple[Tensor, Tensor]] = []

        def record(*arguments: Any, into: list[tuple[Tensor, Tensor]] = recorded) -> Tensor:
            into.append(
                (arguments[1].flatten(0, 1), assemble_kernels(*arguments[1:]).flatten(0, 1))
            )
            return mix(*arguments)

        for layer in kernel_layers(network):
            layer.mixture = record
        assert_run_agrees(network, x, run)
        for (coefficients, kernel), golden in zip(recorded, run["layers"].values(), strict=True):
            assert_agrees(coefficients, golden["coefficients"])
            assert_agrees(kernel, golden["kernel"])


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_authors_parameters(name: str) -> None:
    case = LAYERS[name]
    network = layers_of(case)
    assert [[key, list(value.shape)] for key, value in official_state(network).items()] == (
        case["state"]
    )
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters == case["num_params"]["all"]


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, case in CASES.items() for number in range(len(case["runs"]))],
)
def test_networks_agree_with_the_authors_code(name: str, number: int) -> None:
    case, run = CASES[name], CASES[name]["runs"][number]
    row, options = NETWORKS[name]
    network = timm.create_model(row, **options)
    assert_run_agrees(network, prepare(network, case, run), run)
