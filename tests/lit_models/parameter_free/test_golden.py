"""Networks against numbers of the authors' own code; weights follow from `draw`."""

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

from lit_models.official import load_official, official_state
from lit_models.parameter_free.weights import authors_keys

GOLDEN = Path(__file__).parent / "golden"
# The authors' replace_stride_with_dilation is timm's output_stride, their layer_setting its layers.
DILATED = {"output_stride": 16, "layers": (1, 1, 1, 2), "num_classes": 10}
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "pf_resnet50": ("pf_baseline_resnet50", {}),
    "pf_resnet50_hybrid": ("resnet50_hybrid", {}),
    "pf_resnet_hybrid_dilated": ("resnet50_hybrid", DILATED),
    "pf_vit_ti_max": ("vit_ti_max", {}),
    "pf_vit_ti_max_64": ("vit_ti_max", {"img_size": 64, "num_classes": 10}),
    "pf_pit_ti_max": ("pit_ti_max", {}),
}
CASES = {name: json.loads((GOLDEN / f"{name}.json").read_text()) for name in NETWORKS}


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
    return json.loads(gzip.decompress((GOLDEN / case["state_file"]).read_bytes()))


def build(name: str) -> nn.Module:
    row, options = NETWORKS[name]
    return timm.create_model(row, **options)


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


@pytest.mark.parametrize("name", CASES)
def test_networks_have_the_authors_parameters_in_order(name: str) -> None:
    with torch.device("meta"):
        state = official_state(build(name))
    assert [[key, list(value.shape)] for key, value in state.items()] == keys_of(CASES[name])


@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, case in CASES.items() for number in range(len(case["runs"]))],
)
def test_outputs_and_gradients_agree_with_the_authors_code(name: str, number: int) -> None:
    case, run = CASES[name], CASES[name]["runs"][number]
    dtype = getattr(torch, run["dtype"])
    network = build(name)
    load_official(network, {key: draw(key, shape) for key, shape in keys_of(case)})
    network.train(run["mode"] == "train").to(dtype)
    generator = np.random.Generator(np.random.PCG64(case["input"]["seed"]))
    x = torch.from_numpy(generator.standard_normal(case["input"]["shape"]).astype(np.float32))
    x = x.to(dtype).requires_grad_()
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
