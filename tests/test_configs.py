"""Every config file is complete, builds what it says, and says what its tables say."""

import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.cli import build
from experiments.tables.agreement import agreements, cost_of_column
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.static import StaticColumns
from experiments.tables.table_files import find_tables, read_table
from lit_models import NetworkTraining
from lit_models.complexity import count_parameters, multiply_adds

CONFIGS = Path(__file__).parents[1] / "configs"
SHARED = ("recipes", "data", "scale", "sweeps", "tables")
COMPLETE = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.relative_to(CONFIGS).parts[0] not in SHARED
)


class Place(NamedTuple):
    """A row of a table."""

    table: TableSpec
    row: RowSpec


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def places() -> dict[Path, list[Place]]:
    """The rows that name a config file, for each file; it may stand in several tables."""
    found = defaultdict(list)
    for table in (read_table(file, CONFIGS) for file in find_tables(CONFIGS)):
        for row in table.rows:
            if row.config:
                found[row.config].append(Place(table, row))
    return dict(found)


PLACES = places()


@cache
def exact_parameters() -> dict[str, dict[str, int]]:
    """Numbers of parameters that were counted on the authors' networks or definitions."""
    files = (Path(__file__).parent / "exact_parameters").glob("*.json")
    return {row: counts for file in files for row, counts in json.loads(file.read_text()).items()}


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_builds_the_network_that_its_tables_describe(path: Path) -> None:
    model, data = build([path])
    assert isinstance(model, NetworkTraining)
    assert model.hparams["num_classes"] == data.num_classes  # type: ignore[attr-defined]
    training, fused, adds = count_parameters(model.network), 0, 0
    exact = exact_parameters().get(name(path))
    places = PLACES.get(path, ())
    costs = {cost_of_column(column) for _, row in places for column in row.values}
    if exact or "multiply_adds" in costs:
        deployed = model.deployed()
        fused = count_parameters(deployed)
        if "multiply_adds" in costs:
            adds = multiply_adds(deployed, data.input_size)  # type: ignore[attr-defined]
    if exact:
        assert {"training": training, "deployed": fused} == exact
    for table, row in places:
        for found in agreements(table, row, StaticColumns(training, fused, adds), {}):
            assert found.as_stated, f"{table.id}, {row.key}: {found}"


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_begins_with_its_own_command(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text())
    assert header
    command = f"python -m experiments fit --config configs/{name(path)}.yaml"
    assert command in header[0]


@pytest.mark.parametrize("path", PLACES, ids=name)
def test_a_rows_header_says_what_its_tables_say(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    for table, row in PLACES[path]:
        assert re.search(rf"{table.id}, row {row.key}$", header, flags=re.MULTILINE)
    published = re.findall(r"^# +published +(.*)", header, flags=re.MULTILINE)
    assert published
    values = {value for _, row in PLACES[path] for value in row.values.values()} - {None}
    said = {float(number) for line in published for number in re.findall(r"\d+\.\d+", line)}
    assert said <= values
    assert said or not values


def test_every_row_of_an_experiment_stands_in_a_table() -> None:
    assert {path for path in COMPLETE if path not in PLACES} == {CONFIGS / "smoke.yaml"}


def test_exact_parameters_are_those_of_configs_that_exist() -> None:
    assert exact_parameters().keys() <= {name(path) for path in COMPLETE}
