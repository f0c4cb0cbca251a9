"""Every config file is complete, builds what it says, and says what its table says."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.cli import build
from lit_models import ImageClassifier

CONFIGS = Path(__file__).parents[1] / "configs"
SHARED = ("recipes", "data", "scale", "tables")
COMPLETE = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.relative_to(CONFIGS).parts[0] not in SHARED
)
TABLES = sorted((CONFIGS / "tables").glob("*.yaml"))


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def table_rows() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    tables = [yaml.safe_load(path.read_text()) for path in TABLES]
    return [(table, row) for table in tables for row in table["rows"] if row.get("config")]


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_builds_its_network(path: Path) -> None:
    model, data = build([path])
    assert isinstance(model, ImageClassifier)
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
    assert said
    assert said <= values


def test_every_row_of_an_experiment_stands_in_a_table() -> None:
    in_tables = {row["config"] for _, row in table_rows()}
    rows = {f"{name(path)}.yaml" for path in COMPLETE} - {"smoke.yaml"}
    assert rows <= in_tables
