"""Cardinality against width: the published widths, and what makes them so."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.models.resnet import Bottleneck

from lit_models.resnext.cardinality import (
    RESNET,
    block_parameters,
    row_values,
    width_at_constant_complexity,
)

TABLES = Path(__file__).parents[3] / "configs" / "tables"
TABLE: dict[str, Any] = yaml.safe_load(
    (TABLES / "resnext_cardinality_width_equivalence.yaml").read_text()
)
# Weights of a block of these cardinalities, computed from the paper's formula.
WEIGHTS = {1: 69_632, 2: 69_760, 4: 69_888, 8: 71_456, 32: 70_144}


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: row["key"])
def test_the_published_widths_follow_from_the_cardinality(row: dict[str, Any]) -> None:
    assert row_values(row["variant"]) == row["values"]


@pytest.mark.parametrize("cardinality", WEIGHTS)
def test_the_published_blocks_have_about_70_thousand_weights(cardinality: int) -> None:
    weights = block_parameters(cardinality, width_at_constant_complexity(cardinality))
    assert weights == WEIGHTS[cardinality]


@settings(deadline=None)
@given(st.sampled_from([1, 2, 4, 8]), st.integers(1, 16), st.sampled_from([16, 32]))
def test_the_formula_counts_the_convolutions_of_a_block(
    cardinality: int, width: int, planes: int
) -> None:
    # timm's base width is for a stage of 64.
    block = Bottleneck(4 * planes, planes, cardinality=cardinality, base_width=width * 64 // planes)
    convolutions = (block.conv1, block.conv2, block.conv3)
    counted = sum(conv.weight.numel() for conv in convolutions)
    assert counted == block_parameters(cardinality, width, channels=4 * planes)


@settings(deadline=None)
@given(st.integers(1, 64), st.sampled_from([64, 128, 256, 512]), st.integers(16, 256))
def test_no_other_width_is_nearer_to_the_reference(
    cardinality: int, channels: int, reference_width: int
) -> None:
    reference = (cardinality // 2 + 1, reference_width)
    width = width_at_constant_complexity(cardinality, channels, reference)
    budget = block_parameters(*reference, channels)
    # The width that would be exact lies within half a channel.
    below = _weights(cardinality, width - 0.5, channels)
    above = _weights(cardinality, width + 0.5, channels)
    assert below <= budget * (1 + 1e-9)
    assert budget <= above * (1 + 1e-9)


def _weights(cardinality: int, width: float, channels: int) -> float:
    return cardinality * (2 * channels * width + 9 * width**2)


@settings(deadline=None)
@given(st.integers(1, 255), st.sampled_from([64, 256]))
def test_more_paths_are_never_wider_but_together_never_narrower_by_more_than_rounding(
    cardinality: int, channels: int
) -> None:
    try:
        fewer, more = (
            width_at_constant_complexity(paths, channels)
            for paths in (cardinality, 2 * cardinality)
        )
    except ValueError:
        assert block_parameters(2 * cardinality, 1, channels) > block_parameters(*RESNET, channels)
        return
    assert more <= fewer
    assert 2 * (more + 0.5) >= fewer - 0.5


def test_the_reference_has_its_own_width() -> None:
    assert width_at_constant_complexity(1) == 64
    assert width_at_constant_complexity(8, reference=(8, 64)) == 64
    assert width_at_constant_complexity(4, channels=64, reference=(1, 16)) == 6


def test_too_many_paths_are_refused() -> None:
    with pytest.raises(ValueError, match="cardinality=1000 leaves less than a channel"):
        width_at_constant_complexity(1000)
