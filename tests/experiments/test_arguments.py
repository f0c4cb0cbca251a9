from pathlib import Path

import pytest
import yaml

from experiments.arguments import read_arguments
from experiments.compose import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "row.yaml"
    path.write_text("trainer: {max_epochs: 2}\n")
    return path


@pytest.mark.parametrize("form", ["--config {}", "--config={}", "-c {}"])
def test_config_files_become_one_merged_config(config: Path, form: str) -> None:
    arguments = read_arguments(["fit", *form.format(config).split(), "--seed_everything", "3"])
    assert arguments.config_files == [config]
    assert arguments.parsed[0] == "fit"
    assert yaml.safe_load(arguments.parsed[2]) == {"trainer": {"max_epochs": 2}}
    assert arguments.parsed[3:] == ["--seed_everything", "3"]


def test_everything_but_config_files_is_an_override(config: Path) -> None:
    words = ["--trainer.max_epochs=4", "--print_config", "--model.init_args.lr", "-1"]
    arguments = read_arguments(["fit", "--config", str(config), *words])
    assert arguments.overrides == ["trainer.max_epochs=4", "print_config=", "model.init_args.lr=-1"]


def test_a_key_is_placed_where_it_was_set(config: Path) -> None:
    arguments = read_arguments(["fit", "--config", str(config), "--model.lr", "1"])
    assert arguments.place("model.lr") == "command line"
    assert arguments.place("trainer.max_epochs") == f"{config}:1"
    assert arguments.place("data") is None


def test_a_checkpoint_in_a_run_folder_brings_its_config(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("trainer: {max_epochs: 7}\n")
    checkpoint = tmp_path / "checkpoints/last.ckpt"
    arguments = read_arguments(["test", "--ckpt_path", str(checkpoint)])
    assert arguments.composition.declared == {"trainer": {"max_epochs": 7}}


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no config file"):
        read_arguments(["fit", "--config", str(tmp_path / "none.yaml")])


def test_a_file_that_says_where_to_compute_does_not_name_the_row(tmp_path: Path) -> None:
    row, scale = tmp_path / "configs/family/row.yaml", tmp_path / "configs/scale/big.yaml"
    for path in (row, scale):
        path.parent.mkdir(parents=True)
        path.touch()
    assert read_arguments(["fit", "--config", str(row), "--config", str(scale)]).row_file == row
    assert read_arguments(["fit", "--config", str(scale)]).row_file is None


def test_a_recipe_lies_above_the_row_and_does_not_name_it(tmp_path: Path) -> None:
    row, recipe = tmp_path / "row.yaml", tmp_path / "short.yaml"
    row.write_text("trainer: {max_epochs: 9, devices: 1}\n")
    recipe.write_text("trainer: {max_epochs: 1}\n")
    read = read_arguments(["fit", "--config", str(row), "--recipe", str(recipe), "--runs", "x"])
    assert read.row_file == row
    assert read.config_files == [row, recipe]
    assert read.composition.declared == {"trainer": {"max_epochs": 1, "devices": 1}}
    assert read.overrides == ["runs=x"]
