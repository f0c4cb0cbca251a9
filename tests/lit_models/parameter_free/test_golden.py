"""Networks against numbers of the authors' own code; weights follow from a rule."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from golden_numbers import assert_agrees, assert_gradients_agree, draw, input_of
from torch import nn

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


def keys_of(case: dict[str, Any]) -> list[list[Any]]:
    return json.loads(gzip.decompress((GOLDEN / case["state_file"]).read_bytes()))


def build(name: str) -> nn.Module:
    row, options = NETWORKS[name]
    return timm.create_model(row, **options)


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
    network = build(name)
    load_official(network, {key: draw(key, shape) for key, shape in keys_of(case)})
    network.train(run["mode"] == "train").to(getattr(torch, run["dtype"]))
    x = input_of(case, run["dtype"])
    y = network(x)
    assert_agrees(y, run["output"])
    loss = y.square().mean()
    loss.backward()
    assert loss.item() == pytest.approx(run["loss"], rel=1e-3)
    ours = {name: parameter.grad for name, parameter in network.named_parameters()}
    theirs = {key: ours[name] for key, name in authors_keys(network).items() if name in ours}
    assert_gradients_agree({"<input>": x.grad} | theirs, run["grad_l2"])
