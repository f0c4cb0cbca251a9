"""Every config file is complete, builds what it says, and says what its table says."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from lightning import LightningDataModule

from experiments.cli import build
from experiments.tables.spec import read_table
from lit_models import ImageClassifier
from lit_models.complexity import count_parameters

CONFIGS = Path(__file__).parents[1] / "configs"
SHARED = ("recipes", "data", "scale", "tables")
COMPLETE = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.relative_to(CONFIGS).parts[0] not in SHARED
)
TABLES = sorted((CONFIGS / "tables").glob("*.yaml"))
# Rows whose published number of parameters is not what the authors' own code builds, and why.
PUBLISHED_OTHERWISE = {
    "resnet18_kw_1_4": "4.08 M published; their code and configuration build 4,031,768",
}
# Counted on the authors' networks.
KERNEL_WAREHOUSE_PARAMETERS: dict[str, int] = json.loads(
    (Path(__file__).parent / "kernel_warehouse_parameters.json").read_text()
)


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


@cache
def built(path: Path) -> tuple[ImageClassifier, LightningDataModule]:
    model, data = build([path])
    assert isinstance(model, ImageClassifier)
    return model, data


def table_rows() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    tables = [yaml.safe_load(path.read_text()) for path in TABLES]
    return [(table, row) for table in tables for row in table["rows"] if row.get("config")]


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_builds_its_network(path: Path) -> None:
    model, data = built(path)
    assert model.hparams["num_classes"] == data.num_classes  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_begins_with_its_own_command(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text())
    assert header
    command = f"python -m experiments fit --config configs/{name(path)}.yaml"
    assert command in header[0]


@pytest.mark.parametrize(
    ("table", "row"), table_rows(), ids=lambda part: part.get("id", part.get("key"))
)
def test_a_rows_header_says_what_its_table_says(table: dict[str, Any], row: dict[str, Any]) -> None:
    header = (CONFIGS / row["config"]).read_text().split("\n\n")[0]
    assert f"{table['id']}, row {row['key']}" in header
    (published,) = re.findall(r"^# +published +(.*)", header, flags=re.MULTILINE)
    values = {float(value) for value in row["values"].values() if value is not None}
    said = {float(number) for number in re.findall(r"\d+\.\d+", published)}
    assert said <= values
    assert said or not values


def test_every_row_of_an_experiment_stands_in_a_table() -> None:
    in_tables = {row["config"] for _, row in table_rows()}
    rows = {f"{name(path)}.yaml" for path in COMPLETE} - {"smoke.yaml"}
    assert rows <= in_tables


@pytest.mark.parametrize(
    ("table", "row"),
    [part for part in table_rows() if part[1]["values"].get("params") is not None],
    ids=lambda part: part.get("id", part.get("key")),
)
def test_a_network_has_as_many_parameters_as_its_table_says(
    table: dict[str, Any], row: dict[str, Any]
) -> None:
    spec = read_table(CONFIGS / "tables" / f"{table['id']}.yaml", CONFIGS)
    assert spec.column("params").unit == "M"
    model, _ = built(CONFIGS / row["config"])
    millions = round(count_parameters(model.network) / 1e6, spec.decimals("params"))
    assert (millions == row["values"]["params"]) != (row["key"] in PUBLISHED_OTHERWISE)


@pytest.mark.parametrize("row", KERNEL_WAREHOUSE_PARAMETERS)
def test_a_kernel_warehouse_network_has_exactly_the_authors_number_of_parameters(row: str) -> None:
    model, _ = built(CONFIGS / "kernel_warehouse/imagenet" / f"{row}.yaml")
    assert count_parameters(model.network) == KERNEL_WAREHOUSE_PARAMETERS[row]
