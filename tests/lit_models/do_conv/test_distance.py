"""What D learned, as a number."""

import pytest
import torch
from torch import nn

from lit_models.do_conv import DOConv2d, distances_from_identity, over_parameterise


def test_fresh_layers_have_not_moved() -> None:
    network = over_parameterise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5)))
    assert distances_from_identity(network) == {"0": 0.0, "1": 0.0}


@pytest.mark.parametrize(("depth_multiplier", "copies"), [(9, 1), (12, 1), (18, 2)])
def test_the_distance_is_relative_to_the_identity(depth_multiplier: int, copies: int) -> None:
    layer = DOConv2d(2, 4, 3, depth_multiplier=depth_multiplier)
    assert layer.D is not None
    identity = torch.zeros(2, 9, depth_multiplier)
    for copy in range(copies):
        identity[:, range(9), range(9 * copy, 9 * copy + 9)] = 1
    with torch.no_grad():
        layer.D.copy_(identity)  # as far away as the identity is long
    assert distances_from_identity(nn.Sequential(layer)) == {"0": pytest.approx(1.0)}


def test_layers_without_d_are_left_out() -> None:
    network = over_parameterise(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3)))
    assert list(distances_from_identity(network)) == ["1"]
    assert distances_from_identity(nn.Conv2d(1, 1, 3)) == {}
