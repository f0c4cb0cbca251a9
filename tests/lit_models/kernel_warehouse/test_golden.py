"""Layers and networks against numbers of the authors' own code; weights follow from `draw`."""

import gzip
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
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


def draw(key: str, shape: list[int]) -> Tensor:
    if key.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    scale = 1 / math.sqrt(max(1, math.prod(shape[1:]))) if len(shape) >= 2 else 0.1
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    values = generator.standard_normal(shape).astype(np.float32) * np.float32(scale)
    if key.endswith("running_var"):
        values = 1 + abs(values)
    elif len(shape) == 1 and key.endswith(".weight"):
        values = 1 + values
    return torch.from_numpy(values)


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
    generator = np.random.Generator(np.random.PCG64(case["input"]["seed"]))
    x = torch.from_numpy(generator.standard_normal(case["input"]["shape"]).astype(np.float32))
    network.train(run["mode"] == "train").to(getattr(torch, run["dtype"]))
    if run.get("temperature") is not None:
        set_temperature(network, run["temperature"])
    return x.to(getattr(torch, run["dtype"])).requires_grad_()


def assert_agrees(tensor: Tensor, golden: dict[str, Any]) -> None:
    assert list(tensor.shape) == golden["shape"]
    tensor = tensor.detach().double()
    tolerance = 1e-4 * golden["l2"] / math.sqrt(tensor.numel())
    listed = golden.get("values") or golden["first16"]
    found = tensor.flatten()[: len(listed)].tolist()
    assert found == pytest.approx(listed, rel=0, abs=tolerance)
    assert tensor.mean().item() == pytest.approx(golden["mean"], rel=0, abs=tolerance)
    assert tensor.std(unbiased=False).item() == pytest.approx(golden["std"], rel=0, abs=tolerance)
    assert tensor.norm().item() == pytest.approx(golden["l2"], rel=1e-4)


def assert_run_agrees(network: nn.Module, x: Tensor, run: dict[str, Any]) -> None:
    y = network(x)
    assert_agrees(y, run["output"])
    loss = y.square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], rel=1e-3)
    parameters = {"<input>": x} | dict(network.named_parameters())
    names = {"<input>": "<input>"} | authors_keys(network)
    for key, norm in run["grad_l2"].items():
        gradient = parameters[names[key]].grad
        assert gradient.double().norm().item() == pytest.approx(norm, rel=1e-3), key


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
