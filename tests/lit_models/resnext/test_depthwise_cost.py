"""What depthwise separable convolution costs: formulas, the published table, a whole network."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lit_models.complexity import multiply_adds
from lit_models.registry import create_network
from lit_models.resnext import ConvolutionShape, DepthwiseSeparableConv2d, costs_by_layer_type
from lit_models.resnext.depthwise_cost import row_values

TABLES = Path(__file__).parents[3] / "configs" / "tables"
TABLE: dict[str, Any] = yaml.safe_load((TABLES / "depthwise_separable_cost.yaml").read_text())
# The same, exactly.
COMPUTED = {
    "convolution": (462_422_016, 2_359_296),
    "depthwise_separable": (52_283_392, 266_752),
    "width_0_75": (29_578_752, 150_912),
    "resolution_0_714": (15_091_200, 150_912),
}
SHAPES = st.builds(
    ConvolutionShape,
    kernel_size=st.sampled_from([1, 3, 5, 7]),
    in_channels=st.integers(1, 64),
    out_channels=st.integers(1, 64),
    map_size=st.integers(7, 28),
)


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: row["key"])
def test_the_published_costs_follow_from_the_formulas(row: dict[str, Any]) -> None:
    values = row_values(row["variant"])
    assert tuple(round(1e6 * value) for value in values.values()) == COMPUTED[row["key"]]
    for column, published in row["values"].items():
        digits = len(repr(published).partition(".")[2])
        assert round(values[column], digits) == published


@settings(deadline=None)
@given(SHAPES)
def test_the_saving_is_one_over_the_outputs_and_one_over_the_area(shape: ConvolutionShape) -> None:
    for separable, standard in (
        (shape.separable_multiply_adds, shape.standard_multiply_adds),
        (shape.separable_parameters, shape.standard_parameters),
    ):
        assert separable / standard == pytest.approx(shape.ratio)


def test_3x3_convolutions_become_8_to_9_times_cheaper() -> None:
    shape = ConvolutionShape(3, 512, 512, 14)
    assert 8 < 1 / shape.ratio < 9


@settings(deadline=None, max_examples=25)
@given(SHAPES)
def test_the_formulas_count_what_the_layers_do(shape: ConvolutionShape) -> None:
    channels = (shape.in_channels, shape.out_channels)
    size = (shape.in_channels, shape.map_size, shape.map_size)
    padding = shape.kernel_size // 2
    with torch.device("meta"):
        standard = nn.Conv2d(*channels, shape.kernel_size, padding=padding, bias=False)
        separable = DepthwiseSeparableConv2d(*channels, shape.kernel_size)
    assert multiply_adds(standard, size) == shape.standard_multiply_adds
    assert multiply_adds(separable, size) == shape.separable_multiply_adds
    weights = separable.conv_dw.weight.numel() + separable.conv_pw.weight.numel()
    assert weights == shape.separable_parameters


@settings(deadline=None)
@given(SHAPES, st.sampled_from([0.25, 0.5, 0.75]))
def test_thinner_layers_cost_about_the_square_of_the_multiplier(
    shape: ConvolutionShape, alpha: float
) -> None:
    shape = ConvolutionShape(
        shape.kernel_size, 4 * shape.in_channels, 4 * shape.out_channels, shape.map_size
    )
    thin = shape.scaled(width_multiplier=alpha)
    ratio = thin.separable_multiply_adds / shape.separable_multiply_adds
    assert alpha**2 <= ratio <= alpha
    assert thin.standard_multiply_adds == pytest.approx(alpha**2 * shape.standard_multiply_adds)


@settings(deadline=None)
@given(SHAPES, st.sampled_from([0.5, 0.25]))
def test_smaller_maps_cost_the_square_of_the_multiplier_and_no_parameters_less(
    shape: ConvolutionShape, rho: float
) -> None:
    shape = ConvolutionShape(
        shape.kernel_size, shape.in_channels, shape.out_channels, 4 * shape.map_size
    )
    small = shape.scaled(resolution_multiplier=rho)
    assert small.separable_multiply_adds == rho**2 * shape.separable_multiply_adds
    assert small.separable_parameters == shape.separable_parameters


def test_mobilenets_cost_goes_to_the_published_types_of_layers() -> None:
    with torch.device("meta"):
        network = create_network("mobilenet_v1_100")
    costs = costs_by_layer_type(network, (3, 224, 224))
    published = TABLE["network"]["resource_share_by_layer_type"]
    assert costs.keys() == published.keys()
    multiply_adds_of_all = sum(cost.multiply_adds for cost in costs.values())
    weights_of_all = sum(cost.weights for cost in costs.values())
    assert multiply_adds_of_all == multiply_adds(network, (3, 224, 224))
    for kind, cost in costs.items():
        share = 100 * cost.multiply_adds / multiply_adds_of_all
        if kind == "conv_3x3":  # 1.19 is printed; all shares together are 99.29 then
            assert share == pytest.approx(1.91, abs=0.005)
        else:
            assert share == pytest.approx(published[kind]["mult_adds_percent"], abs=0.006)
        share = 100 * cost.weights / weights_of_all
        assert share == pytest.approx(published[kind]["params_percent"], abs=0.006)


@pytest.mark.parametrize("name", ["resnext_29_4x6d_small", "tiny_grouped_convolution"])
def test_costs_by_type_add_up_to_the_networks(name: str) -> None:
    with torch.device("meta"):
        network = create_network(name)
    size = network.default_cfg["input_size"]
    costs = costs_by_layer_type(network, size)
    assert sum(cost.multiply_adds for cost in costs.values()) == multiply_adds(network, size)
