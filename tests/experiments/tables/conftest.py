"""A small made-up table and made-up run records; no number here was measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.compose import compose
from experiments.record import RunRecord
from experiments.tables.static import StaticColumns

RECIPE = {
    "seed_everything": 7,
    "trainer": {"max_epochs": 15},
    "model": {"init_args": {"optimizer": {"name": "momentum", "lr": 0.01}}},
    "data": {"class_path": "datamodules.MNISTDataModule", "init_args": {"batch_size": 32}},
}


def made_up_table() -> dict[str, Any]:
    columns = [
        {"name": name, "unit": unit, "meaning": meaning, "better": "higher"}
        for name, unit, meaning in (
            ("run1", "percent", "accuracy of run 1"),
            ("run2", "percent", "accuracy of run 2"),
            ("avg", "percent", "mean of two runs"),
            ("gain", "points", "difference of the means"),
        )
    ]
    baseline = {"run1": 90.0, "run2": 90.5, "avg": 90.25, "gain": None}
    operator = {"run1": 91.0, "run2": 91.25, "avg": 91.125, "gain": 0.875}
    return {
        "id": "small",
        "title": "Digits: a made-up table",
        "paper": {"title": "A paper", "authors": ["A. One", "B. Two"], "venue": "V", "year": 2000},
        "source": ["made up"],
        "dataset": "digits",
        "protocol": {"epochs": 15, "augmentation": None},
        "columns": columns,
        "reproduce": {
            "metric": "test/acc1",
            "quantity": "accuracy",
            "column": "avg",
            "runs": ["run1", "run2"],
            "gain": {"column": "gain", "over": "baseline"},
        },
        "rows": [
            {
                "key": "baseline",
                "label": "Plain",
                "config": "own/baseline.yaml",
                "values": baseline,
            },
            {"key": "operator", "label": "Ours", "config": "own/operator.yaml", "values": operator},
        ],
    }


@pytest.fixture
def content() -> dict[str, Any]:
    """What the table file says; a test may change it before writing it."""
    return made_up_table()


@pytest.fixture
def write_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a table file, its rows' configs beside it, and makes their folder the current one."""

    def write(content: dict[str, Any], name: str = "small") -> Path:
        monkeypatch.chdir(tmp_path)
        for config in ("baseline", "operator"):
            path = Path("configs/own") / f"{config}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            model = {"model": {"class_path": f"lit_models.{config.title()}"}}
            path.write_text(yaml.safe_dump(RECIPE | {"model": RECIPE["model"] | model["model"]}))
        file = Path("configs/tables") / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        return file

    return write


@pytest.fixture
def table(write_table: Callable[..., Path], content: dict[str, Any]) -> Path:
    """File of the made-up table, in the current folder's `configs/tables`."""
    return write_table(content)


@pytest.fixture
def record_run(table: Path) -> Callable[..., RunRecord]:
    """Writes a made-up record of a run below `runs/`; later calls are newer runs."""
    number = 0

    def write(
        row: str,
        seed: int,
        accuracy: float | None = 0.9,
        overrides: tuple[str, ...] = (),
        **facts: Any,
    ) -> RunRecord:
        nonlocal number
        number += 1
        config = f"configs/own/{row}.yaml"
        folder = Path("runs/own") / row / f"made-up-{number:03}"
        given = {
            "run_id": folder.name,
            "row": f"own/{row}",
            "command": "fit",
            "status": "finished",
            "why": None,
            "seed": seed,
            "started": f"2000-01-01T00:00:{number:02}+00:00",
            "seconds": 60.0,
            "epochs": 15,
            "config": {
                "files": [config],
                "declared": compose([config]).declared,
                "overrides": [f"seed_everything={seed}", *overrides],
            },
            "git": {"commit": "c0ffee" * 6, "dirty": False},
            "versions": {"python": "3.11.0", "torch": "0.0.0"},
            "hardware": {"cpu": "made-up CPU", "cores": 2, "threads": 1, "gpus": []},
            "data": {"name": "digits", "sha256": "0" * 64, "train": 1000, "val": 0, "test": 500},
            "parameters": {"training": 1234, "fused": 1000},
            "metrics": {"last": {}, "test": {} if accuracy is None else {"test/acc1": accuracy}},
        }
        record = RunRecord.open(folder, **(given | facts))
        record.close()
        return record

    return write


@pytest.fixture
def networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows' made-up networks cost this; no class stands behind their configs."""
    costs = {
        "baseline": StaticColumns(1000, 1000, 50_000),
        "operator": StaticColumns(1500, 1000, 30_000),
    }
    monkeypatch.setattr(
        "experiments.tables.static.static_columns", lambda config: costs[config.stem]
    )
