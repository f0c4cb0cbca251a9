"""What the tables of definitions say, counted on this folder's own layers and networks.

Functions that the tables `do_conv_layer` and `gluoncv_architectures` name as `computed`.
"""

import math
from collections.abc import Mapping
from typing import Any

import timm
import torch

from lit_models.complexity import count_parameters
from lit_models.do_conv.layers import DOConv2d

# A layer with as many channels as each number of groups of the table needs.
CHANNELS = {"in": 12, "out": 24, "g": 4}


def example_layer(groups: str, side: int) -> DOConv2d:
    """A layer of one of the paper's kinds, without bias and without numbers (meta device).

    Args:
        groups: `1` (DO-Conv), `in` (DO-DConv, one for each input channel) or `g` (DO-GConv).
        side: Side of the kernel.
    """
    count = CHANNELS.get(groups) or int(groups)
    channels = CHANNELS["in"], CHANNELS["out"]
    return DOConv2d(*channels, side, groups=count, bias=False, device="meta")


def layer_values(variant: Mapping[str, Any]) -> dict[str, float]:
    """Columns of a row of `do_conv_layer`: parameters that D adds for an input channel.

    Counted as those of the layer beyond its fused convolution's.

    Args:
        variant: The row's variant, with the `groups`.
    """
    values = {}
    for side in (3, 5, 7):
        layer = example_layer(variant["groups"], side)
        added = count_parameters(layer) - math.prod(layer.weight.shape)
        values[f"d_{side}x{side}"] = added / layer.in_channels
    return values


def architecture_values(variant: Mapping[str, Any]) -> dict[str, float]:
    """Columns of a row of `gluoncv_architectures`: parameters of the network.

    Args:
        variant: The row's variant, with the name of the `network`.
    """
    with torch.device("meta"):
        network = timm.create_model(variant["network"])
    return {"params": count_parameters(network)}
