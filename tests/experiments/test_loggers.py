import csv
from pathlib import Path

import pytest

from experiments.loggers import RunCSVLogger, build_loggers
from experiments.wandb_scheme import TrainedRow

RUN = TrainedRow("a/b", 1, "net", {}, [])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_run_continues_its_metrics(tmp_path: Path) -> None:
    first = RunCSVLogger(tmp_path)
    for step in range(4):
        first.log_metrics({"loss": step / 10}, step)
    first.save()
    second = RunCSVLogger(tmp_path, first_step=2)
    second.log_metrics({"loss": 9.0, "acc": 1.0}, 2)
    second.save()
    assert [(row["step"], row["loss"], row["acc"]) for row in rows(tmp_path)] == [
        ("0", "0.0", ""),
        ("1", "0.1", ""),
        ("2", "9.0", "1.0"),
    ]


def test_metrics_csv_lies_in_the_run_folder_itself(tmp_path: Path) -> None:
    logger = RunCSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    logger.save()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


@pytest.mark.parametrize(("variable", "count"), [("disabled", 1), ("offline", 2)])
def test_the_environment_decides_about_wandb_unless_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, count: int
) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    assert len(build_loggers(tmp_path, RUN, "auto")) == count


def test_wandb_can_be_switched_off(tmp_path: Path) -> None:
    (logger,) = build_loggers(tmp_path, RUN, "disabled")
    assert isinstance(logger, RunCSVLogger)
