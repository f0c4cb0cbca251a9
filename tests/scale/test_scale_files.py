"""Files of configs/scale say where a row computes, go with every row, and change nothing else."""

import re
from pathlib import Path

import pytest

from experiments.arguments import read_arguments
from experiments.cli import SuiteCLI
from experiments.compose import compose
from experiments.record import row_of
from experiments.tables.rows import changes

CONFIGS = Path(__file__).parents[2] / "configs"
SCALE = sorted((CONFIGS / "scale").glob("*.yaml"))
SHARED = ("recipes", "data", "scale", "tables", "sweeps")
# Another precision is another recipe.
MATERIAL = {"bf16", "fp16"}


def some_rows() -> list[Path]:
    """The first row of every experiment of every family, and the smoke config."""
    folders = [
        experiment
        for family in sorted(CONFIGS.iterdir())
        if family.is_dir() and family.name not in SHARED
        for experiment in sorted(family.iterdir())
    ]
    return [CONFIGS / "smoke.yaml", *(sorted(folder.glob("*.yaml"))[0] for folder in folders)]


def one_row_of_each_family() -> list[Path]:
    families: dict[str, Path] = {}
    for row in some_rows():
        families.setdefault(row.relative_to(CONFIGS).parts[0], row)
    return list(families.values())


@pytest.mark.parametrize("scale", SCALE, ids=lambda path: path.stem)
@pytest.mark.parametrize("row", one_row_of_each_family(), ids=row_of)
def test_a_scale_file_goes_with_a_row(row: Path, scale: Path) -> None:
    arguments = read_arguments(["fit", "--config", str(row), "--config", str(scale)])
    assert arguments.row_file == row
    parsed = SuiteCLI(arguments).config.fit
    expected = compose([scale]).declared
    for key, value in expected.get("trainer", {}).items():
        found = parsed.trainer[key]
        assert (found.class_path if key == "strategy" and isinstance(value, dict) else found) == (
            value["class_path"] if isinstance(value, dict) else value
        )
    for key, value in expected.get("model", {}).get("init_args", {}).items():
        assert parsed.model.init_args[key] == value
    assert parsed.keep_published_batch == expected.get("keep_published_batch", False)


@pytest.mark.parametrize("row", some_rows(), ids=row_of)
def test_a_row_keeps_its_callbacks_and_its_recipe(row: Path) -> None:
    alone = compose([row]).declared
    for scale in SCALE:
        both = compose([row, scale]).declared
        assert both.get("trainer", {}).get("callbacks") == alone.get("trainer", {}).get("callbacks")
        assert both["data"] == alone["data"]
        assert both.get("published_batch") == alone.get("published_batch")


@pytest.mark.parametrize("scale", SCALE, ids=lambda path: path.stem)
def test_where_a_row_computes_does_not_matter_to_its_table(scale: Path) -> None:
    assert bool(changes({}, [], compose([scale]).declared)) == (scale.stem in MATERIAL)


@pytest.mark.parametrize("scale", SCALE, ids=lambda path: path.stem)
def test_a_scale_file_begins_with_its_command(scale: Path) -> None:
    header = re.match(r"(#.*\n)+", scale.read_text())
    assert header
    assert "#   command  " in header[0]
    assert f"--config configs/scale/{scale.name}" in header[0]


def test_machines_of_several_devices_keep_the_published_batch() -> None:
    for scale in SCALE:
        declared = compose([scale]).declared
        if "devices" in declared.get("trainer", {}):
            assert declared["keep_published_batch"] is True
