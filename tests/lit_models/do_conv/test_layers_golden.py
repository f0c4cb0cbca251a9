"""The layer against numbers of the authors' own code; the state follows from a rule."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_numbers import assert_agrees, assert_gradients_agree, draw, input_of
from torch import Tensor
from torch.nn import functional as F

from lit_models.do_conv import DOConv2d

CASES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent / "golden").glob("*.json"))
}
FAITHFUL = [name for name, case in CASES.items() if not case.get("quirk")]


def d_diag(shape: list[int]) -> Tensor:
    channels, area, depth_multiplier = shape
    copies = depth_multiplier // area
    identity = torch.cat(
        [torch.eye(area)] * copies + [torch.zeros(area, depth_multiplier - copies * area)], dim=1
    )
    return identity.repeat(channels, 1, 1)


def layer_of(case: dict[str, Any]) -> DOConv2d:
    arguments = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in case["official"]["kwargs"].items()
    }
    depth_multiplier = arguments.pop("D_mul", None)
    layer = DOConv2d(**arguments, depth_multiplier=depth_multiplier)
    state = {
        key: d_diag(shape) if key == "d_diag" else draw(key, shape) for key, shape in case["state"]
    }
    layer.load_state_dict(state, strict=True)
    return layer


def test_all_golden_cases_are_there() -> None:
    assert len(FAITHFUL) == 8
    assert len(CASES) == 10


@pytest.mark.parametrize("name", FAITHFUL)
def test_kernel_output_loss_and_gradients_are_the_authors(name: str) -> None:
    case = CASES[name]
    layer, images, (run,) = layer_of(case), input_of(case), case["runs"]
    output = layer(images)
    loss = (output**2).mean()
    loss.backward()

    assert_agrees(layer.weight, case["folded_kernel"])
    assert_agrees(output, run["output"])
    assert loss.item() == pytest.approx(run["loss"], rel=1e-3)
    gradients = {"<input>": images.grad} | {n: p.grad for n, p in layer.named_parameters()}
    assert gradients.keys() == run["grad_l2"].keys()
    assert_gradients_agree(gradients, run["grad_l2"])


@pytest.mark.parametrize("name", FAITHFUL)
def test_the_fused_layer_gives_the_authors_output(name: str) -> None:
    case = CASES[name]
    assert_agrees(layer_of(case).fuse()(input_of(case)), case["runs"][0]["output"])


@pytest.mark.parametrize("name", FAITHFUL)
def test_counts_keys_and_depth_multiplier_are_the_authors(name: str) -> None:
    case = CASES[name]
    layer = layer_of(case)
    assert sum(p.numel() for p in layer.parameters()) == case["num_params"]["trainable"]
    assert layer.depth_multiplier == case["D_mul"]
    ours = [[key, list(tensor.shape)] for key, tensor in layer.state_dict().items()]
    assert ours == [entry for entry in case["state"] if entry[0] != "d_diag"]


def test_a_depth_multiplier_below_the_area_which_the_authors_accept_is_refused() -> None:
    with pytest.raises(ValueError, match=r"depth_multiplier is 4; .* at least the kernel area, 9"):
        layer_of(CASES["doconv_quirk_dmul4_k3"])


def test_unequal_paddings_are_not_swapped_as_the_authors_do_in_other_modes_than_zeros() -> None:
    case = CASES["doconv_quirk_reflect_k35"]
    layer, images = layer_of(case), input_of(case)
    assert_agrees(layer.weight, case["folded_kernel"])

    height, width = layer.padding
    swapped = F.pad(images, (height, height, width, width), mode="reflect")
    assert_agrees(F.conv2d(swapped, layer.weight, layer.bias), case["runs"][0]["output"])

    right = F.pad(images, (width, width, height, height), mode="reflect")
    torch.testing.assert_close(layer(images), F.conv2d(right, layer.weight, layer.bias))
    assert layer(images).shape[-2:] == images.shape[-2:]
