import io
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from experiments.record import RunRecord
from experiments.tables.running import (
    Outcome,
    Runner,
    Task,
    plan_runs,
    run_plan,
    run_process,
    show_plan,
)
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]
RUNS = Path("runs")


def plan(seeds: int = 1, rows: Sequence[str] | None = None) -> list[Task]:
    table = load_table("small")
    return plan_runs(table, table.select(rows), seeds, RUNS)


def run(tasks: Sequence[Task], runner: Runner, options: Sequence[str] = ()) -> tuple[int, str]:
    console = Console(width=200, record=True, file=io.StringIO())
    status = run_plan(load_table("small"), tasks, RUNS, options, console, runner)
    return status, console.export_text()


class FakeFit:
    """Records the commands it is given and writes the run that each would have made."""

    def __init__(self, record_run: RecordRun, fails: Sequence[str] = ()) -> None:
        self.record_run = record_run
        self.fails = fails
        self.commands: list[list[str]] = []

    def __call__(self, words: Sequence[str]) -> Outcome:
        self.commands.append(list(words))
        row, seed = Path(words[4]).stem, int(words[6])
        if row in self.fails:
            self.record_run(row, seed, None, status="failed", why="no luck")
            return Outcome(1, "error: no luck")
        self.record_run(row, seed, 0.9)
        return Outcome(0, "")


def test_seeds_are_counted_up_from_the_one_in_the_config(table: Path) -> None:
    assert [(task.row.key, task.seed, task.action) for task in plan(2)] == [
        ("baseline", 7, "train"),
        ("baseline", 8, "train"),
        ("operator", 7, "train"),
        ("operator", 8, "train"),
    ]


def test_a_run_is_a_fit_of_the_rows_config_with_the_seed(table: Path) -> None:
    (task,) = plan(1, ["operator"])
    assert task.command(Path("elsewhere"), ["--wandb", "offline"]) == [
        *("-m", "experiments", "fit", "--config", "configs/own/operator.yaml"),
        *("--seed_everything", "7", "--runs", "elsewhere", "--wandb", "offline"),
    ]


def test_finished_runs_are_kept(record_run: RecordRun) -> None:
    record_run("operator", 8)
    assert [task.action for task in plan(2, ["operator"])] == ["train", "keep"]


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_broken_runs_are_redone_and_the_plan_says_why(record_run: RecordRun, status: str) -> None:
    record_run("operator", 7, status=status)
    (task,) = plan(1, ["operator"])
    assert task.action == "train"
    assert ("killed" if status == "running" else status) in task.why


def test_a_run_with_other_settings_is_redone_and_the_plan_says_which(
    record_run: RecordRun,
) -> None:
    record_run("operator", 7, overrides=("trainer.max_epochs=1",))
    (task,) = plan(1, ["operator"])
    assert task.action == "train"
    assert task.why == "made-up-001 does not count: trainer.max_epochs was 1, now 15"


def test_a_live_run_is_left_alone(record_run: RecordRun) -> None:
    live = RunRecord.open(record_run("operator", 7, status="running").folder)
    try:
        (task,) = plan(1, ["operator"])
        assert (task.action, task.why) == ("leave", "made-up-001 is running")
        fit = FakeFit(record_run)
        assert run([task], fit)[0] == 0
        assert fit.commands == []
    finally:
        live.close()


def test_what_is_missing_is_trained_and_then_nothing_is_missing(record_run: RecordRun) -> None:
    record_run("baseline", 7)
    fit = FakeFit(record_run)
    status, text = run(plan(2), fit)
    assert status == 0
    assert len(fit.commands) == 3
    assert "[1/3] baseline seed 8: finished in 0:00, 90.00 percent" in text
    assert {task.action for task in plan(2)} == {"keep"}


def test_a_failed_row_does_not_stop_the_others_and_is_reported_at_the_end(
    record_run: RecordRun,
) -> None:
    fit = FakeFit(record_run, fails=["baseline"])
    status, text = run(plan(1), fit)
    assert status == 1
    assert [command[4] for command in fit.commands] == [
        "configs/own/baseline.yaml",
        "configs/own/operator.yaml",
    ]
    assert "[1/2] baseline seed 7: failed after 0:00: no luck" in text
    end = text[text.index("1 of 2 runs failed") :]
    assert "python -m experiments fit --config configs/own/baseline.yaml" in end
    assert [task.action for task in plan(1)] == ["train", "keep"]


def test_ctrl_c_stops_before_the_next_run(record_run: RecordRun) -> None:
    commands = []

    def interrupted(words: Sequence[str]) -> Outcome:
        commands.append(words)
        raise KeyboardInterrupt

    status, text = run(plan(2), interrupted)
    assert status == 130
    assert len(commands) == 1
    assert "interrupted in [1/4] baseline seed 7; the same command goes on from here" in text


def test_a_run_that_another_process_has_finished_meanwhile_is_not_done_twice(
    record_run: RecordRun,
) -> None:
    tasks = plan(1, ["operator"])
    record_run("operator", 7)
    fit = FakeFit(record_run)
    status, text = run(tasks, fit)
    assert (status, fit.commands) == (0, [])
    assert "left out, made-up-001 has finished by now" in text


def test_the_plan_warns_of_options_that_make_runs_not_count(table: Path) -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    options = ["--trainer.max_epochs", "1", "--data.init_args.root", "there"]
    show_plan(load_table("small"), plan(1), options, console)
    text = console.export_text()
    assert "2 of 2 runs to train" in text
    assert "other values of trainer.max_epochs will not count for the table" in text


def test_a_run_that_says_nothing_of_its_failure_is_reported_by_its_status(table: Path) -> None:
    _, text = run(plan(1, ["operator"]), lambda _: Outcome(-9, "Epoch 3"))
    assert "operator seed 7: exit status -9" in text


def test_a_run_that_does_not_count_is_told_so(record_run: RecordRun) -> None:
    def fit(words: Sequence[str]) -> Outcome:
        record_run("operator", 7, overrides=("trainer.max_epochs=1",))
        return Outcome(0, "")

    status, text = run(plan(1, ["operator"]), fit)
    assert status == 0
    assert "finished in 0:00, but made-up-001 does not count: trainer.max_epochs was 1" in text


def test_a_process_tells_its_status_and_last_line() -> None:
    code = "print('first'); print('error: last'); print(); raise SystemExit(3)"
    assert run_process(["-c", code]) == Outcome(3, "error: last")


def test_ctrl_c_lets_the_process_end_by_itself(tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "def stop(*_):\n    (here / 'ended').touch(); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "(here / 'started').touch()\n"
        "time.sleep(60)\n"
    )

    def press_ctrl_c() -> None:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    # Started in a shell's background, this process would ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=press_ctrl_c, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_process(["-c", code, str(tmp_path)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "ended").exists()
