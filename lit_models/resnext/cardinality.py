"""Cardinality against width: blocks of one complexity.

"Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, section 3.4 and Table 2.
"""

import math
from collections.abc import Mapping
from typing import Any

RESNET = (1, 64)


def block_parameters(cardinality: int, width: int, channels: int = 256) -> int:
    """Weights of a bottleneck of C paths: C (channels d + 9 d^2 + d channels).

    Args:
        cardinality: Number of paths, C.
        width: Channels of a path, d.
        channels: Channels that the block takes and returns.
    """
    return cardinality * (channels * width + 9 * width**2 + width * channels)


def width_at_constant_complexity(
    cardinality: int, channels: int = 256, reference: tuple[int, int] = RESNET
) -> int:
    """Width whose block has about as many weights as the reference's, to the nearest channel.

    Args:
        cardinality: Number of paths, C.
        channels: Channels that the block takes and returns.
        reference: Cardinality and width of the block to match; ResNet's unless given.

    Raises:
        ValueError: There are so many paths that none would be left with a channel.
    """
    budget = block_parameters(*reference, channels) / cardinality
    # The positive root of 9 d^2 + 2 channels d = budget.
    width = round((math.sqrt(channels**2 + 9 * budget) - channels) / 9)
    if width < 1:
        raise ValueError(f"cardinality={cardinality} leaves less than a channel for each path")
    return width


def row_values(variant: Mapping[str, Any]) -> dict[str, float]:
    """Columns of a row of `resnext_cardinality_width_equivalence`, computed.

    Args:
        variant: The row's variant, with the `cardinality`.
    """
    width = width_at_constant_complexity(variant["cardinality"])
    return {"bottleneck_width": width, "group_width": variant["cardinality"] * width}
