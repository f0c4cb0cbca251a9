import pytest
import torch
from torch import nn

from lit_models.kernel_warehouse import install, kernel_layers, make_plan, temperature
from lit_models.kernel_warehouse.plans import WarehousePlan


def chain() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3)
    )


def test_a_plan_lists_warehouses_as_they_are_first_named() -> None:
    plan = make_plan({"2": "b", "0": "a", "3": "b"}, cell_num_ratio=(1, 2), reduction=0.5)
    assert plan == (
        WarehousePlan("b", ("2", "3"), cell_num_ratio=1, reduction=0.5),
        WarehousePlan("a", ("0",), cell_num_ratio=2, reduction=0.5),
    )


def test_a_setting_needs_a_value_for_each_warehouse() -> None:
    with pytest.raises(ValueError, match="reduction has 3 values for 2 warehouses: a, b"):
        make_plan({"0": "a", "2": "b"}, reduction=(1, 2, 3))


def test_layers_get_their_cells_in_the_order_of_modules() -> None:
    network = chain()
    install(network, make_plan({"3": "a", "2": "a"}))
    first, second = kernel_layers(network)
    assert first is network[2]
    assert first.attention.shelf.first_cell == 0
    assert second.attention.shelf.first_cell == first.attention.shelf.num_cells
    assert second.warehouse is first.warehouse


def test_geometry_and_bias_are_taken_over() -> None:
    network = nn.Sequential(
        nn.Conv2d(4, 8, (3, 5), (2, 1), (1, 2), (1, 2), groups=2, bias=False),
        nn.Conv1d(4, 8, 3, padding="same"),
        nn.Conv3d(4, 8, 3, padding="valid"),
        nn.Linear(4, 8),
    )
    install(network, make_plan({name: name for name in "0123"}))
    conv, conv1d, conv3d, linear = kernel_layers(network)
    assert conv.geometry[:5] == ((8, 2, 3, 5), (2, 1), (1, 2), (1, 2), 2)
    assert conv.bias is None
    assert conv1d.padding == (1,)
    assert conv3d.padding == (0, 0, 0)
    assert linear(torch.randn(2, 3, 4)).shape == (2, 3, 8)
    assert linear.bias is not None


def test_replaced_modules_are_named() -> None:
    assert install(chain(), make_plan({"3": "a", "0": "b"})).replaced == ("0", "3")


def test_all_layers_share_one_temperature_even_if_installed_in_turn() -> None:
    network = chain()
    install(network, make_plan({"0": "a"}))
    install(network, make_plan({"2": "b", "3": "c"}))
    assert len({layer.warehouse.temperature for layer in kernel_layers(network)}) == 1
    assert temperature(network) == 0


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (make_plan({"9": "a"}), "warehouse a: the network has no module '9'"),
        (make_plan({"1": "a"}), "warehouse a: cannot replace '1': it is a ReLU"),
        (make_plan({"4": "a"}), "warehouse a: cannot replace '4': it pads with 'reflect'"),
        (make_plan({"5": "a"}), "warehouse a: cannot replace '5': it pads one side more"),
        (make_plan({"0": "a"}) + make_plan({"0": "b"}), "'0' is in two warehouses, a and b"),
        (make_plan({"0": "a"}, cell_num_ratio=0.5), "warehouse a: cell_num_ratio 0.5 needs 2"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_and_nothing_changes(
    plan: tuple[WarehousePlan, ...], message: str
) -> None:
    network = chain()
    network.append(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"))
    network.append(nn.Conv2d(4, 4, 4, padding="same"))
    before = list(network)
    with pytest.raises(ValueError, match=message):
        install(network, plan)
    assert list(network) == before


def test_nothing_is_allocated_for_a_network_on_the_meta_device() -> None:
    with torch.device("meta"):
        network = chain()
    install(network, make_plan({"0": "a", "2": "a"}))
    assert all(parameter.is_meta for parameter in network.parameters())
