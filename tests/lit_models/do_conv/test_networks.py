import math

import pytest
import torch
from torch import nn

from lit_models.complexity import count_parameters
from lit_models.do_conv import over_parameterise
from lit_models.registry import create_network

DEMOS = {
    "mnist_demo_pytorch": (3930, 6603),
    "mnist_demo_tensorflow": (48722, 51395),
    "mnist_demo_gluoncv": (431080, 444205),
}


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_has_the_published_size_plain_and_over_parameterised(name: str) -> None:
    network = create_network(name)
    plain, over_parameterised = DEMOS[name]
    assert count_parameters(network) == plain
    assert count_parameters(over_parameterise(network)) == over_parameterised


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_classifies_digits(name: str) -> None:
    assert create_network(name)(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("mnist_demo_pytorch", 0, math.inf), ("mnist_demo_gluoncv", -1, 1)]
)
def test_the_demos_activate_their_logits(name: str, low: float, high: float) -> None:
    logits = create_network(name)(torch.randn(8, 1, 28, 28) * 50)
    assert low <= logits.min()
    assert logits.max() <= high


def test_keras_draws_uniformly_within_glorots_bound() -> None:
    network = create_network("mnist_demo_tensorflow")
    fc = network.fc
    assert isinstance(fc, nn.Linear)
    bound = math.sqrt(6 / (4608 + 10))
    assert 0.97 * bound < fc.weight.abs().max() <= bound
    assert not fc.bias.any()


def test_mxnet_draws_uniformly_within_its_magnitudes_bound() -> None:
    network = create_network("mnist_demo_gluoncv")
    for layer, fan_in, fan_out in ((network.conv2, 20 * 25, 50 * 25), (network.fc1, 800, 500)):
        bound = math.sqrt(2.24 / ((fan_in + fan_out) / 2))
        assert 0.97 * bound < layer.weight.abs().max() <= bound * (1 + 1e-6)
        assert not layer.bias.any()
