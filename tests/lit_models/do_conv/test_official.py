"""State dicts of whole networks whose every convolution is the authors' layer."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from lit_models import load_official
from lit_models.do_conv import DOConv2d, over_parameterise
from lit_models.official import official_state
from lit_models.surgery import replace_modules


def plain() -> nn.Sequential:
    """1x1 convolutions with and without bias and groups among the others."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 1, bias=False),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Sequential(nn.Conv2d(8, 12, 1, groups=4), nn.BatchNorm2d(12)),
        nn.Conv2d(12, 12, (1, 3), groups=12, bias=False),
        nn.Conv2d(12, 4, 1),
    )


def authors(network: nn.Module, depth_multiplier: int | None = None) -> nn.Module:
    """The network with the authors' layer for every convolution, with some D."""

    def build(_: str, conv: nn.Module) -> nn.Module:
        assert isinstance(conv, nn.Conv2d)
        layer = DOConv2d.from_conv(conv, depth_multiplier)
        if layer.D is not None:
            nn.init.normal_(layer.D, std=0.1)
        return layer

    network = replace_modules(network, lambda _, m: isinstance(m, nn.Conv2d), build).network
    return network.eval()


def authors_state(network: nn.Module) -> dict[str, Tensor]:
    """Its state dict as their code would write it."""
    state: dict[str, Tensor] = {}
    for key, value in network.state_dict().items():
        state[key] = value.clone()
        if key.endswith(".D"):
            channels, area, depth_multiplier = value.shape
            copies, rest = divmod(depth_multiplier, area)
            identity = torch.cat([torch.eye(area)] * copies + [torch.zeros(area, rest)], dim=1)
            state[key.replace(".D", ".d_diag")] = identity.repeat(channels, 1, 1)
    return state


@pytest.mark.parametrize("depth_multiplier", [None, 12])
def test_a_whole_network_of_the_authors_is_read_and_written(depth_multiplier: int | None) -> None:
    theirs = authors(plain(), depth_multiplier)
    state = authors_state(theirs)
    assert state["2.0.W"].shape == (12, 2, 1)
    ours = over_parameterise(plain(), depth_multiplier=depth_multiplier).eval()
    load_official(ours, {"model": {f"module.{key}": value for key, value in state.items()}})
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(ours(x), theirs(x))
    assert type(ours[0]) is nn.Conv2d
    written = official_state(ours)
    assert list(written) == list(state)
    assert [key for key in written if key.startswith("1.")] == ["1.W", "1.D", "1.d_diag", "1.bias"]
    for key, value in written.items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("name", ["gluoncv_resnet50_v1", "gluoncv_mobilenet_v3_large"])
def test_so_are_gluoncvs_networks(name: str) -> None:
    with torch.device("meta"):
        ours, theirs = (timm.create_model(name) for _ in range(2))
        written = official_state(over_parameterise(ours))
        state = authors(theirs).state_dict()
    layers = [module for module in theirs.modules() if isinstance(module, DOConv2d)]
    assert any(layer.D is None for layer in layers)
    assert len(written) == len(state) + sum(layer.D is not None for layer in layers)
    assert [key for key in written if not key.endswith("d_diag")] == list(state)
    assert all(written[key].shape == value.shape for key, value in state.items())


def test_a_single_layer_is_a_network_too() -> None:
    for size, keys in ((3, ["W", "D", "d_diag", "bias"]), (1, ["W", "bias"])):
        layer, again = DOConv2d(4, 6, size), DOConv2d(4, 6, size)
        state = official_state(layer)
        assert list(state) == keys
        load_official(again, state)
        assert torch.equal(again.weight, layer.weight)


def test_d_diag_is_written_where_and_as_d_is() -> None:
    network = over_parameterise(plain()).double()
    constant = official_state(network)["1.d_diag"]
    assert constant.dtype == torch.float64
    assert constant.is_contiguous()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.W": None}, "they lack '0.W'"),
        ({"0.W": None, "0.weight": torch.zeros(8, 3, 1, 1)}, "they lack '0.W'"),
        ({"0.W": torch.zeros(8, 3, 2)}, r"'0.W' has the shape \(8, 3, 2\), not \(8, 3, 1\)"),
        ({"1.d_diag": None}, "they lack '1.d_diag'"),
        ({"1.d_diag": torch.zeros(8, 9, 9)}, "1.d_diag is not the identity"),
        ({"0.D": torch.zeros(3, 1, 1)}, "they have '0.D' besides"),
    ],
)
def test_another_networks_weights_are_refused_and_nothing_changes(
    change: dict[str, Any], message: str
) -> None:
    state = {**authors_state(authors(plain())), **change}
    network = over_parameterise(plain())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(ValueError, match=message) as refused:
        load_official(network, {key: value for key, value in state.items() if value is not None})
    assert "\n" not in str(refused.value)
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_plain_networks_and_those_of_kernel_warehouse_keep_their_own_names() -> None:
    assert list(official_state(nn.Conv2d(2, 2, 1))) == ["weight", "bias"]
    with torch.device("meta"):
        state = official_state(timm.create_model("kw1d2x_resnet18"))
    assert next(iter(state)) == "warehouse_manager.weights.0"
