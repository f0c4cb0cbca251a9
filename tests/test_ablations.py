"""The rows of an ablation differ from the paper's in what they say, and in nothing else."""

from pathlib import Path
from typing import Any

import pytest

from experiments.compose import compose
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.table_files import load_table

CONFIGS = Path(__file__).parents[1] / "configs"
# The paper's row, and those that differ in the operator itself or in its callback.
REFERENCES = {"kernel_warehouse_ablations_digits": "kw1x", "do_conv_ablations_mnist": "do_conv"}
OTHERWISE = {
    "baseline": {"model.class_path", "model.init_args.cell_num_ratio", "trainer.callbacks"},
    "no_temperature": {"trainer.callbacks"},
}


def leaves(tree: Any, path: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {path.removeprefix("."): tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= leaves(value, f"{path}.{key}")
    return found


def declared(row: RowSpec) -> dict[str, Any]:
    assert row.config is not None
    return leaves(compose([row.config]).declared)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_row_differs_in_what_its_table_says(name: str) -> None:
    table: TableSpec = load_table(name, CONFIGS)
    reference = next(row for row in table.rows if row.key == REFERENCES[name])
    papers = declared(reference)
    for row in table.rows:
        own = declared(row)
        differing = {key for key in own.keys() | papers.keys() if own.get(key) != papers.get(key)}
        options = {f"model.init_args.{option}" for option in row.variant} & own.keys()
        assert bool(differing) == (row is not reference), row.key
        assert differing == options or differing <= OTHERWISE.get(row.key, set()), row.key
