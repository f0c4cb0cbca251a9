import io
import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from small_table import make_table

from experiments.compose import ConfigError
from experiments.tables.running.launching import submit
from experiments.tables.running.planning import Request, plan_runs
from experiments.tables.table_files import load_table


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_table(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def sbatch_says(here: Path, text: str, status: int = 0) -> None:
    (here / "sbatch").write_text(f"#!/bin/sh\necho {shlex.quote(text)}\nexit {status}\n")
    (here / "sbatch").chmod(0o755)


def submitted(options: Sequence[str] = (), seeds: int = 2, jobs: int | None = 3) -> tuple[int, str]:
    request = Request(load_table("small"), Path("runs"), Path("a recipe.yaml"), tuple(options))
    Path("a recipe.yaml").write_text("trainer: {max_epochs: 1}\n")
    tasks = plan_runs(request, request.table.select(None), seeds)
    console = Console(width=300, record=True, file=io.StringIO())
    return submit(request, tasks, jobs, ["--time=10"], console), console.export_text()


def test_a_plan_becomes_one_array_job_over_a_list_of_commands(here: Path) -> None:
    sbatch_says(here, "77;cluster")
    status, said = submitted(["--threads", "1"])
    assert status == 0
    assert "submitted array job 77 with 4 tasks" in said
    (script,) = Path("runs/slurm").rglob("job.sh")
    lines = script.read_text().splitlines()
    for option in (
        "--array=1-4%3",
        "--ntasks-per-node=1",
        "--signal=SIGUSR1@120",
        "--requeue",
        "--time=10",
    ):
        assert f"#SBATCH {option}" in lines
    commands = (script.parent / "commands.txt").read_text().splitlines()
    seen = {
        (c[c.index("--rows") + 1], c[c.index("--first-seed") + 1])
        for c in map(shlex.split, commands)
    }
    assert seen == {("one", "0"), ("one", "1"), ("two", "0"), ("two", "1")}


def test_a_task_runs_its_line_of_the_list(here: Path) -> None:
    sbatch_says(here, "77")
    submitted()
    (script,) = Path("runs/slurm").rglob("job.sh")
    commands = script.parent / "commands.txt"
    third = shlex.split(commands.read_text().splitlines()[2])
    commands.write_text("false\nfalse\nprintf '%s|' " + shlex.join(third) + "\nfalse\n")
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "3"}
    done = subprocess.run(
        ["bash", str(script)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("|")[:-1] == third
    assert third[third.index("--recipe") + 1] == "a recipe.yaml"


def test_what_sbatch_refuses_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(here))
    status, said = submitted()
    assert status == 1
    assert "there is no sbatch here; submit it elsewhere: sbatch " in said
    sbatch_says(here, "", status=1)
    assert submitted(seeds=1)[0] == 1


def test_rows_that_ask_for_different_devices_are_refused_before_a_job_waits(here: Path) -> None:
    config = here / "configs/own/two.yaml"
    config.write_text(config.read_text().replace("devices: 1", "devices: 2"))
    with pytest.raises(ConfigError, match="the rows ask for different devices"):
        submitted()
    assert submitted(["--trainer.devices", "2"])[0] == 1
    assert "#SBATCH --ntasks-per-node=2" in next(Path("runs").rglob("job.sh")).read_text()
