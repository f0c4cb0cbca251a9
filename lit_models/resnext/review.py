"""The ResNeXt-50 of a published review of the paper, and its summary layer by layer.

It differs from the paper's: the second stage begins with stride 2 already, so that every later map
has a quarter of the area, and the convolutions of stem and shortcuts have biases.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn

from lit_models.complexity import count_parameters
from lit_models.registry import register_network
from lit_models.resnext.networks import BLOCKS, IMAGENET_FACTS, Network, resnext


def biased_resnext(**options: Any) -> Network:
    """ResNeXt-50 (32 x 4d) as the review builds it, 25,032,808 parameters.

    Convolutions start as the paper's; the last norm of each block starts at 0. How the biases start
    is not stated; they start as torch's.

    Args:
        options: Those of timm's `ResNet`.
    """
    network = resnext(
        **{
            "layers": BLOCKS[50],
            "cardinality": 32,
            "base_width": 4,
            "zero_init_last": True,
            **options,
        }
    )
    network.conv1 = _with_bias(network.conv1)
    first = network.layer1[0]
    first.conv2.stride = first.downsample[0].stride = (2, 2)
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        stage[0].downsample[0] = _with_bias(stage[0].downsample[0])
    for stage in network.feature_info[1:]:
        stage["reduction"] *= 2
    return network


def layer_table(network: Network) -> dict[str, int]:
    """Parameters of the parts that the review's summary lists, in its order.

    A stage `conv2` to `conv5` has the branch and the shortcut of its first block, and one line for
    each of its other blocks, which are all alike.

    Args:
        network: A timm ResNet of bottlenecks whose stages begin with a projection shortcut.
    """
    parts: dict[str, int] = {
        "stem_conv": count_parameters(network.conv1),
        "stem_bn": count_parameters(network.bn1),
    }
    for number, stage in enumerate(
        (network.layer1, network.layer2, network.layer3, network.layer4), start=2
    ):
        first, *others = stage
        shortcut = count_parameters(first.downsample)
        parts[f"conv{number}_block1_residual"] = count_parameters(first) - shortcut
        parts[f"conv{number}_block1_shortcut"] = shortcut
        (parts[f"conv{number}_other_block"],) = {count_parameters(block) for block in others}
    parts["classifier"] = count_parameters(network.fc)
    parts["total"] = count_parameters(network)
    return parts


def row_values(variant: Mapping[str, Any]) -> dict[str, float]:
    """Columns of a row of `resnext_review_model_summary`, computed.

    Args:
        variant: The row's variant; its `part` is a name in `layer_table`.
    """
    return {"params": _parts()[variant["part"]]}


@cache
def _parts() -> dict[str, int]:
    with torch.device("meta"):
        return layer_table(biased_resnext())


def _with_bias(conv: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution that has a bias beside the weight of `conv`."""
    biased = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
    )
    biased.weight = conv.weight
    return biased


register_network("resnext50_32x4d_biased", biased_resnext, {**IMAGENET_FACTS, "pool_size": (4, 4)})
