import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from lit_models.parameter_free import OPERATIONS
from lit_models.parameter_free.cells import (
    Cell,
    Genotype,
    kind_of_cell,
    parameter_free_share,
    read_genotype,
)

GENOTYPE: Genotype = {
    "normal": [[(0, "max_pool"), (1, "conv")], [(1, "identity"), (2, "avg_pool")]],
    "reduction": [[(0, "depthwise_conv"), (1, "max_pool")], [(2, "conv")]],
}


def little(genotype: Any = GENOTYPE, **options: Any) -> nn.Module:
    return timm.create_model(
        "cell_network", genotype=genotype, **{"cells": 3, "channels": 4, **options}
    )


def test_nodes_are_sums_of_operations_on_inputs_and_earlier_nodes() -> None:
    torch.manual_seed(0)
    double, negate = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        double.weight.copy_(2 * torch.eye(2))
        negate.weight.copy_(-torch.eye(2))
    cell = Cell((2, 2), 2, [[(0, double), (1, negate)], [(2, double)]])
    cell.fit0, cell.fit1 = nn.Identity(), nn.Identity()
    earlier, last = torch.randn(2, 1, 2, 2, 2)
    first = 2 * earlier - last
    torch.testing.assert_close(cell(earlier, last), torch.cat([first, 2 * first], dim=1))


def test_reduction_cells_halve_the_maps_and_double_the_channels() -> None:
    network = little(cells=8)
    kinds = [kind_of_cell(index, 8) for index in range(8)]
    assert [i for i, kind in enumerate(kinds) if kind == "reduction"] == [2, 5]
    shapes = []
    for cell in network.cells:
        cell.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    network(torch.randn(2, 3, 32, 32))
    assert shapes == [(2, 8, 32, 32)] * 2 + [(2, 16, 16, 16)] * 3 + [(2, 32, 8, 8)] * 3


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_learns_in_both_kinds_of_cell(operation: str) -> None:
    nodes = [[[0, operation], [1, operation]]]
    network = little({"normal": nodes, "reduction": nodes})
    network(torch.randn(2, 3, 15, 15)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_cell_has_the_operations_that_the_genotype_says() -> None:
    network = little()
    for cell, kind in zip(network.cells, ("normal", "reduction", "reduction"), strict=True):
        edges = [edge for node in GENOTYPE[kind] for edge in node]
        for module, (_, operation) in zip(cell.edges, edges, strict=True):
            assert any(True for _ in module.parameters()) == (
                operation in ("conv", "depthwise_conv")
            )


def test_cells_of_their_own_go_where_their_names_say() -> None:
    genotype = {f"cell{i}": [[[0, operation]]] for i, operation in enumerate(OPERATIONS[:4])}
    network = little(genotype, cells=None)
    assert len(network.cells) == 4
    with pytest.raises(ValueError, match="cell 4 of 5, a normal one, is not in the genotype's"):
        little(genotype, cells=5)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_genotype_is_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"genotype.{suffix}"
    file.write_text(json.dumps(GENOTYPE))
    assert read_genotype(str(file)) == GENOTYPE
    assert little(str(file)).genotype == GENOTYPE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.yaml", "genotype nowhere.yaml could not be read"),
        ({}, "genotype is {}; write cells by name"),
        ({"normal": []}, "genotype: normal has no node"),
        ({"normal": [[]]}, "genotype: normal: node 2 has no edge"),
        ({"normal": [[[0, "median"]]]}, r"\[0, 'median'\] is no edge .* one of conv, depthwise"),
        ({"normal": [[["conv", 0]]]}, r"\['conv', 0\] is no edge"),
        ({"normal": [[[2, "conv"]]]}, "genotype: normal: node 2 comes after node 2"),
        ({"normal": "conv"}, "'conv' is no edge"),
        ({"reduction": GENOTYPE["reduction"]}, "cell 0 of 3, a normal one, is not in"),
    ],
)
def test_what_is_no_genotype_is_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        little(given)
    assert "\n" not in str(error.value)


def test_the_share_of_operations_without_parameters_counts_edges() -> None:
    assert parameter_free_share(GENOTYPE["normal"]) == 0.75
    assert parameter_free_share(GENOTYPE["reduction"]) == pytest.approx(1 / 3)


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="cells is 2; a network has at least 3"):
        little(cells=2)
