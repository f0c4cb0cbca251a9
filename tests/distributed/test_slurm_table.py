"""A table as an array job of a real SLURM."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_table import environment, make_table, open_gate, records, table_run

pytestmark = [
    pytest.mark.slow,  # daemons, and a job for each of two rows
    pytest.mark.slurm,
]


def ask(cluster: dict[str, str], folder: Path, *words: str) -> str:
    variables = {**cluster, "PYTHONPATH": environment(folder)["PYTHONPATH"]}
    done = subprocess.run(words, env=variables, cwd=folder, capture_output=True, text=True)
    return done.stdout + done.stderr


def output_of(folder: Path) -> str:
    return "".join(file.read_text() for file in (folder / "runs/slurm").rglob("*.out"))


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it does not happen")


def wait_for_jobs(cluster: dict[str, str], folder: Path) -> None:
    for _ in range(1200):
        jobs = ask(cluster, folder, "squeue", "--noheader", "--format=%A %r").split("\n")
        if jobs == [""]:
            return
        for job, _, why in (line.partition(" ") for line in jobs):
            if why == "BeginTime":
                # SLURM lets a job that was requeued wait for two minutes, as a rule.
                ask(cluster, folder, "scontrol", "update", f"jobid={job}", "StartTime=now")
        time.sleep(0.5)
    raise AssertionError(ask(cluster, folder, "squeue"))


def test_an_array_job_makes_every_run_once_and_a_second_one_makes_none(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    make_table(tmp_path)
    open_gate(tmp_path)
    submit = table_run("--launcher", "slurm", "--sbatch=--time=10", "--jobs", "1")
    # Nobody has begun when the second one is submitted, so its plan is the same.
    said = [ask(cluster, tmp_path, *submit) for _ in range(2)]
    assert all("with 2 tasks" in text for text in said), said
    wait_for_jobs(cluster, tmp_path)
    found = records(tmp_path)
    output = output_of(tmp_path)
    assert [record.facts["row"] for record in found] == ["own/one", "own/two"], output
    assert {record.state for record in found} == {"finished"}
    assert all(record.folder.name.startswith("slurm-") for record in found)
    assert output.count("small: plan") == 4
    assert "0 of 2 runs to train" in ask(cluster, tmp_path, *submit)


def test_a_task_that_is_signalled_goes_back_into_the_queue_and_is_resumed(
    tmp_path: Path, cluster: dict[str, str]
) -> None:
    make_table(tmp_path)
    said = ask(cluster, tmp_path, *table_run("--launcher", "slurm", "--rows", "one"))
    assert "with 1 tasks" in said
    wait_for(lambda: any(record.last_checkpoint for record in records(tmp_path)))
    (waiting,) = records(tmp_path)
    job = waiting.folder.name.split("-")[1]
    ask(cluster, tmp_path, "scancel", "--signal=USR1", job)
    wait_for(lambda: "is requeued and will go on from there" in output_of(tmp_path))
    open_gate(tmp_path)
    wait_for_jobs(cluster, tmp_path)
    (record,) = records(tmp_path)
    output = output_of(tmp_path)
    assert "resume, " in output
    assert (record.folder, record.state) == (waiting.folder, "finished"), output
    assert record.facts["resumed"] == 1
