import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lit_models.kernel_warehouse.attention import initial_assignment
from lit_models.kernel_warehouse.warehouse import Warehouse, cell_shape, shelves

KERNELS = [(32, 16, 3, 3), (32, 32, 1, 1), (16, 32, 3, 3)]


def test_cells_have_the_common_channels_and_one_position() -> None:
    warehouse = Warehouse(KERNELS)
    assert warehouse.cells.shape == (18 + 4 + 18, 16, 16, 1, 1)


def test_ratios_make_cells_smaller_and_fewer() -> None:
    warehouse = Warehouse(
        KERNELS, cell_num_ratio=0.25, cell_inplane_ratio=0.5, cell_outplane_ratio=0.25
    )
    assert warehouse.cells.shape == (8 * 40 // 4, 4, 8, 1, 1)


def test_whole_kernels_can_be_cells() -> None:
    warehouse = Warehouse([(16, 8, 3, 3), (32, 8, 3, 3)], spatial_partition=False)
    assert warehouse.cells.shape == (3, 16, 8, 3, 3)


def test_a_ratio_below_one_channel_leaves_one_channel() -> None:
    assert cell_shape([(16, 1, 3, 3)], 0.5, 0.5, True) == (8, 1, 1, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell_num_ratio": 1.5}, "cell_num_ratio 1.5: from 1 on it must be an integer"),
        ({"cell_num_ratio": 0.3}, "cell_num_ratio 0.3: below 1 it must be 1/n"),
        ({"cell_num_ratio": 0}, "cell_num_ratio 0: below 1 it must be 1/n"),
        ({"cell_num_ratio": -1}, "cell_num_ratio -1: below 1 it must be 1/n"),
        ({"cell_num_ratio": 0.25}, "needs 4 to divide the 18 mixtures of the kernel"),
        ({"cell_inplane_ratio": 0.4}, "cell_inplane_ratio 0.4 makes cells of 6 channels"),
        ({"cell_outplane_ratio": 0.7}, "cell_outplane_ratio 0.7 makes cells of 11 channels"),
        ({"cell_inplane_ratio": 0}, "cell_inplane_ratio is 0; it must be above 0"),
        ({"cell_outplane_ratio": 2}, "cell_outplane_ratio is 2; it must be above 0 and at most 1"),
        ({"spatial_partition": False}, "need one kernel size in a warehouse, not 1x1, 3x3"),
        ({"kernels": []}, "a warehouse needs at least one kernel"),
        ({"kernels": [(8, 8, 3), (8, 8, 3, 3)]}, "1d, 2d and 3d kernels cannot share a warehouse"),
    ],
)
def test_impossible_warehouses_are_refused_in_one_line(
    changes: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        Warehouse(**{"kernels": KERNELS, **changes})
    assert "\n" not in str(error.value)


@st.composite
def layers(draw: st.DrawFn) -> tuple[list[tuple[int, ...]], float]:
    planes = st.sampled_from([4, 8, 12, 16])
    size = st.sampled_from([1, 3])
    kernels = draw(st.lists(st.tuples(planes, planes, size, size), min_size=1, max_size=4))
    return kernels, draw(st.sampled_from([0.25, 0.5, 1, 2, 3]))


@settings(deadline=None, max_examples=60)
@given(layers(), st.sampled_from([0.25, 0.5, 1]), st.sampled_from([0.25, 0.5, 1]))
def test_layers_own_all_cells_and_no_cell_twice(
    kernels_and_ratio: tuple[list[tuple[int, ...]], float], inplane: float, outplane: float
) -> None:
    kernels, ratio = kernels_and_ratio
    cell = cell_shape(kernels, inplane, outplane, True)
    try:
        places = shelves(kernels, cell, ratio)
    except ValueError:
        assume(False)
    owned = [range(p.first_cell, p.first_cell + p.num_cells) for p in places]
    assert [i for cells in owned for i in cells] == list(range(sum(map(len, owned))))
    for place in places:
        assert place.num_cells == place.mixtures * ratio
        assert place.mixtures * math.prod(cell) == math.prod(place.kernel)


@settings(deadline=None, max_examples=60)
@given(layers())
def test_mixtures_start_on_different_cells_of_their_own_layer(
    kernels_and_ratio: tuple[list[tuple[int, ...]], float],
) -> None:
    kernels, ratio = kernels_and_ratio
    try:
        places = shelves(kernels, cell_shape(kernels, 0.5, 0.5, True), ratio)
    except ValueError:
        assume(False)
    for place in places:
        pairs = initial_assignment(place)
        cells = {cell for _, cell in pairs}
        assert len(pairs) == len(cells) == min(place.mixtures, place.num_cells)
        assert cells <= set(range(place.first_cell, place.first_cell + place.num_cells))


def test_cells_are_drawn_again_on_request() -> None:
    warehouse = Warehouse(KERNELS)
    before = warehouse.cells.clone()
    warehouse.reset_parameters()
    assert not torch.equal(before, warehouse.cells)
