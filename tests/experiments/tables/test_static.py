from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.compose import ConfigError
from experiments.tables import static
from experiments.tables.cells import defined_columns
from experiments.tables.static import (
    StaticColumns,
    columns_of_rows,
    defined_values,
    static_columns,
)
from experiments.tables.table_files import find_tables, load_table, read_table

CONFIGS = Path(__file__).parents[3] / "configs"
DEFINITIONS = [
    table for file in find_tables(CONFIGS) if (table := read_table(file, CONFIGS)).computed
]

# Counted by hand from the layers: the demo networks, and D of every convolution beside them.
COUNTS = {
    "mnist_pytorch/baseline": (3930, 3930),
    "mnist_pytorch/do_conv": (6603, 3930),
    "mnist_tensorflow/do_conv": (51395, 48722),
    "mnist_gluoncv/do_conv": (444205, 431080),
}


@pytest.mark.parametrize("row", COUNTS)
def test_parameters_are_counted_before_and_after_fusing(row: str, repository: Path) -> None:
    columns = static_columns(repository / "configs" / "do_conv" / f"{row}.yaml")
    assert (columns.training, columns.fused) == COUNTS[row]


def test_multiply_adds_are_those_of_the_deployed_network(repository: Path) -> None:
    folder = repository / "configs" / "do_conv" / "mnist_pytorch"
    # 3x3 kernels on maps of 14x14, 7x7 and 4x4.
    expected = 9 * (16 * 14 * 14 + 16 * 16 * 7 * 7 + 16 * 10 * 4 * 4)
    assert static_columns(folder / "baseline.yaml").multiply_adds == expected
    assert static_columns(folder / "do_conv.yaml").multiply_adds == expected


def test_equal_networks_are_built_once(
    content: dict[str, Any], write_table: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    content["rows"].append(content["rows"][0] | {"key": "again"})
    content["rows"].append(content["rows"][0] | {"key": "published only", "config": None})
    write_table(content)
    built = []

    def build(config: Path) -> StaticColumns:
        built.append(config.stem)
        return StaticColumns(len(built), 0, 0)

    monkeypatch.setattr(static, "static_columns", build)
    found = list(columns_of_rows(load_table("small").rows))
    assert built == ["baseline", "operator"]
    assert [columns and columns.training for columns in found] == [1, 2, 1, None]


@pytest.mark.parametrize("table", DEFINITIONS, ids=lambda table: table.id)
def test_definitions_give_the_published_numbers(table: Any) -> None:
    values = defined_values(table)
    compared = 0
    for row in table.rows:
        for name, published in row.values.items():
            if published is not None and name in values[row.key]:
                digits = len(repr(published).partition(".")[2])
                assert round(values[row.key][name], digits) == published, (row.key, name)
                compared += 1
    assert compared >= len(table.rows)


def test_a_table_of_definitions_shows_them_beside_the_published_numbers(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    write_table(content)
    values = {"baseline": {"avg": 90.26}, "operator": {}}
    (column,) = defined_columns(load_table("small"), values)
    assert column.header == "avg, computed (percent)"
    assert column.cells == ["90.260", ""]


@pytest.mark.parametrize(
    ("computed", "complaint"),
    [
        ("os.system", "small.yaml: computed: os.system is not in lit_models"),
        ("lit_models.gone.row_values", "small.yaml: computed: No module named 'lit_models.gone'"),
        ("lit_models.complexity.gone", "small.yaml: computed: module 'lit_models.complexity' has"),
    ],
)
def test_a_definition_that_is_not_there_is_named(
    content: dict[str, Any], write_table: Callable[..., Path], computed: str, complaint: str
) -> None:
    content["computed"] = computed
    write_table(content)
    with pytest.raises(ConfigError, match=complaint):
        defined_values(load_table("small"))
