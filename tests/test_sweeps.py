"""Every W&B sweep file names options of our command line, and values that it takes."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from experiments.arguments import read_arguments
from experiments.cli import SuiteCLI

SWEEPS = sorted((Path(__file__).parents[1] / "configs" / "sweeps").glob("*.yaml"))
# What the agent puts in place of these, besides `${args}`.
MACROS = {"${env}": "/usr/bin/env", "${interpreter}": "python"}


def command(sweep: dict[str, Any], point: dict[str, Any]) -> list[str]:
    """The command that W&B's agent starts for a point of the sweep."""
    args = create_sweep_command_args({"args": {key: {"value": v} for key, v in point.items()}})
    words: list[str] = []
    for word in create_sweep_command(list(sweep["command"])):
        words += args["args"] if word == "${args}" else [MACROS.get(word, word)]
    return words


def points(sweep: dict[str, Any]) -> list[dict[str, Any]]:
    names, values = zip(*((k, v["values"]) for k, v in sweep["parameters"].items()), strict=True)
    return [dict(zip(names, point, strict=True)) for point in itertools.product(*values)]


def at(config: Any, name: str) -> Any:
    """The value of an option; of a list, that of its last item."""
    for key in name.split("."):
        config = config[-1] if isinstance(config, list) else config
        config = config[key]
    return config


def test_there_are_sweeps() -> None:
    assert len(SWEEPS) >= 2


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_the_first_and_the_last_point_of_a_sweep_are_runs(
    file: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    sweep = yaml.safe_load(file.read_text())
    assert sweep["metric"]["name"] == "test/acc1"
    first, *_, last = points(sweep)
    for point in (first, last):
        program, *words = command(sweep, point)
        assert [program, *words[:3]] == ["/usr/bin/env", "python", "-m", "experiments"]
        cli = SuiteCLI(read_arguments(words[3:]))
        for name, value in point.items():
            assert at(cli.config["fit"], name) == value
        cli.build_model_and_data()
