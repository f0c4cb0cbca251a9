"""Every network that the suite registers is what timm's own tests ask of a network.

On the meta device, where shapes are computed and no numbers; the families' tests compute for real.
"""

import math
from typing import Any

import pytest
import timm
import torch
from timm.layers import get_channel_dim, get_spatial_dim
from torch import Tensor, nn

import lit_models  # noqa: F401 - registers the networks

NETWORKS = [
    name
    for name in timm.list_models()
    if str(timm.model_entrypoint(name).__module__).startswith("lit_models")
]
# The demos of the DO-Conv repository end in their logits' average or flatten maps of one size.
DEMOS = [name for name in NETWORKS if name.startswith("mnist_demo_")]
COMPLETE = [name for name in NETWORKS if name not in DEMOS]


def on_meta(name: str, **options: Any) -> Any:
    network = timm.create_model(name, device="meta", **options).eval()
    assert all(parameter.is_meta for parameter in network.parameters())
    return network


def image(network: nn.Module) -> Tensor:
    return torch.empty(2, *network.default_cfg["input_size"], device="meta")


def named(fact: str | tuple[str, ...]) -> tuple[str, ...]:
    return (fact,) if isinstance(fact, str) else fact


@pytest.mark.parametrize("name", NETWORKS)
def test_classes_and_channels_are_options(name: str) -> None:
    network = on_meta(name, num_classes=42, in_chans=1)
    assert network(image(network)[:, :1]).shape == (2, 42)


@pytest.mark.parametrize("name", ["gluoncv_resnet18_v2", "kw1d2x_resnet18", "vit_ti_max"])
def test_device_and_data_type_are_options_of_every_network(name: str) -> None:
    network = timm.create_model(name, device="meta", dtype=torch.bfloat16)
    tensors = [*network.parameters(), *network.buffers()]
    assert all(tensor.is_meta for tensor in tensors)
    assert {tensor.dtype for tensor in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", COMPLETE)
def test_it_comes_apart_into_features_and_head(name: str) -> None:
    network = on_meta(name)
    facts, x = network.default_cfg, image(network)
    for kind in ("classifier", "first_conv"):
        for layer in named(facts[kind]):
            assert f"{layer}.weight" in network.state_dict()
    layout = str(getattr(getattr(network, "output_fmt", None), "value", "NCHW"))
    features = network.forward_features(x)
    assert network.forward_head(features).shape == (2, facts["num_classes"])
    assert network.forward_head(features, pre_logits=True).shape == (2, network.head_hidden_size)
    if pool_size := facts.get("pool_size"):
        assert tuple(features.shape[axis] for axis in get_spatial_dim(layout)) == pool_size
        assert features.shape[get_channel_dim(layout)] == network.num_features
    else:
        assert features.shape[-1] == network.num_features
    for classes in (7, 0):
        network.reset_classifier(classes)
        assert network.num_classes == classes
        assert network.forward_head(features).shape == (2, classes or network.head_hidden_size)
    bare = on_meta(name, num_classes=0)
    assert bare.forward_head(features).shape == (2, network.head_hidden_size)
    if pool_size:
        network.reset_classifier(0, "")
        bare = on_meta(name, num_classes=0, global_pool="")
        assert network.forward_head(features).dim() == bare.forward_head(features).dim() == 4


@pytest.mark.parametrize("name", COMPLETE)
def test_its_features_are_as_announced(name: str) -> None:
    network = on_meta(name, features_only=True)
    x = image(network)
    maps = network(x)
    info = network.feature_info
    layout = str(getattr(network.output_fmt, "value", "NCHW"))
    channel, (row, column) = get_channel_dim(layout), get_spatial_dim(layout)
    assert [m.shape[channel] for m in maps] == info.channels()
    for features, reduction in zip(maps, info.reduction(), strict=True):
        assert features.shape[row] <= math.ceil(x.shape[2] / reduction) + 1
        assert features.shape[column] <= math.ceil(x.shape[3] / reduction) + 1
