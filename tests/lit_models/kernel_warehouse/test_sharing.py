"""What attentions say of how cells are shared."""

import pytest
import torch
from torch import Tensor, nn

from lit_models.kernel_warehouse import (
    KWConv2d,
    SharedWarehouse,
    Warehouse,
    effective_cells,
    shared_warehouses,
    sharing_of,
)

KERNELS = ((8, 4, 2, 2), (8, 8, 2, 2), (4, 8, 2, 2))


def network(cell_num_ratio: float) -> nn.Module:
    """Three layers on one warehouse, and one with its own."""
    shared = Warehouse(KERNELS, cell_num_ratio=cell_num_ratio)
    layers = [
        KWConv2d(kernel[1], kernel[0], 2, warehouse=shared, position=position)
        for position, kernel in enumerate(KERNELS)
    ]
    return nn.Sequential(*layers, KWConv2d(4, 4, 3))


def initial(warehouse: SharedWarehouse, of: nn.Module) -> dict[str, Tensor]:
    return {
        name: of.get_submodule(name).get_submodule("attention").get_buffer("assignment")
        for name in warehouse.shelves
    }


def test_layers_are_found_with_the_warehouse_that_they_draw_from() -> None:
    shared, own = shared_warehouses(network(1))
    assert list(shared.shelves) == ["0", "1", "2"]
    assert list(own.shelves) == ["3"]
    assert own.num_cells == 9
    assert shared.num_cells == sum(shelf.num_cells for shelf in shared.shelves.values())


def test_a_plain_network_has_no_warehouse() -> None:
    assert shared_warehouses(nn.Conv2d(1, 1, 1)) == []


@pytest.mark.parametrize("ratio", [1, 2, 0.5])
def test_the_initial_assignment_uses_cells_as_the_paper_says(ratio: float) -> None:
    made = network(ratio)
    for found in shared_warehouses(made):
        statistics = sharing_of(found, initial(found, made))
        mixtures = sum(shelf.mixtures for shelf in found.shelves.values())
        counts = statistics.layers_per_cell.bincount(minlength=2).tolist()
        # A mixture has one cell, or several mixtures that one: no cell serves two layers.
        used = min(mixtures, found.num_cells)
        assert counts == [found.num_cells - used, used]
        assert set(statistics.at_home.values()) == {1.0}
        for name, shelf in found.shelves.items():
            each = statistics.cells_per_mixture[name]
            assert set(each.tolist()) <= {0.0, 1.0}
            assert each.sum() == min(shelf.mixtures, shelf.num_cells)


def test_equal_attention_to_all_cells_is_use_of_all_by_all_layers() -> None:
    made = network(1)
    found = max(shared_warehouses(made), key=lambda each: len(each.shelves))
    equal = {name: torch.ones_like(x) / 3 for name, x in initial(found, made).items()}
    statistics = sharing_of(found, equal)
    assert set(statistics.layers_per_cell.tolist()) == {len(found.shelves)}
    for name, shelf in found.shelves.items():
        torch.testing.assert_close(
            statistics.cells_per_mixture[name],
            torch.full((shelf.mixtures,), float(found.num_cells)),
        )
        home = statistics.at_home[name]
        assert home == pytest.approx(shelf.num_cells / found.num_cells)


def test_effective_cells_count_magnitudes() -> None:
    attention = torch.tensor([[0.5, -0.5, 0, 0], [0, 0, 0, -0.1], [0, 0, 0, 0]])
    torch.testing.assert_close(effective_cells(attention), torch.tensor([2.0, 1.0, 0.0]))


def test_a_layer_without_attention_is_nowhere_at_home() -> None:
    made = network(1)
    found = shared_warehouses(made)[0]
    nothing = {name: torch.zeros_like(x) for name, x in initial(found, made).items()}
    statistics = sharing_of(found, nothing)
    assert set(statistics.at_home.values()) == {None}
    assert not statistics.layers_per_cell.any()
