import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from experiments.record import RunRecord
from experiments.tables.running import pool
from experiments.tables.running.claims import Claim
from experiments.tables.running.planning import Request, Task, plan_runs
from experiments.tables.running.pool import Pool
from experiments.tables.running.processes import Outcome
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_SECONDS", 0.001)
    monkeypatch.setattr(pool, "_SECONDS_FOR_OTHERS", 0.01)


def request() -> Request:
    return Request(load_table("small"), Path("runs"))


def plan(seeds: int = 1, rows: Sequence[str] | None = None) -> list[Task]:
    return plan_runs(request(), request().table.select(rows), seeds)


def run(
    tasks: Sequence[Task], fit: "FakeFit", jobs: int = 1, *, waits: bool = True
) -> tuple[int, str]:
    console = Console(width=200, record=True, file=io.StringIO())
    pool = Pool(request(), tasks, console, jobs=jobs, waits=waits, start=fit)
    return pool.run(), console.export_text()


class FakeFit:
    """Makes processes that live for a few looks and then write the run that each would have made.

    At a look, something else may happen first.
    """

    def __init__(
        self,
        record_run: RecordRun,
        fails: Sequence[str] = (),
        happens: Callable[[], None] = lambda: None,
        overrides: Sequence[str] = (),
    ) -> None:
        self.record_run = record_run
        self.fails = fails
        self.happens = happens
        self.overrides = tuple(overrides)
        self.commands: list[list[str]] = []
        self.environments: list[Mapping[str, str]] = []
        self.living = self.most = 0
        self.terminated = self.waited_for = 0

    def __call__(
        self, words: Sequence[str], environment: Mapping[str, str], claim: int
    ) -> "FakeProcess":
        self.commands.append(list(words))
        self.environments.append(environment)
        self.living += 1
        self.most = max(self.most, self.living)
        return FakeProcess(self, list(words))


class FakeProcess:
    def __init__(self, fit: FakeFit, words: list[str]) -> None:
        self.fit = fit
        self.words = words
        self.looks = 0

    def poll(self) -> Outcome | None:
        self.fit.happens()
        self.looks += 1
        if self.looks < 3:
            return None
        self.fit.living -= 1
        row, seed = Path(self.words[4]).stem, int(self.words[6])
        if row in self.fit.fails:
            self.fit.record_run(row, seed, None, status="failed", why="no luck")
            return Outcome(1, "error: no luck")
        self.fit.record_run(row, seed, 0.9, self.fit.overrides)
        return Outcome(0, "")

    def terminate(self) -> None:
        self.fit.terminated += 1

    def wait(self) -> None:
        self.fit.waited_for += 1


def test_what_is_missing_is_trained_and_then_nothing_is_missing(record_run: RecordRun) -> None:
    record_run("baseline", 7)
    fit = FakeFit(record_run)
    status, text = run(plan(2), fit)
    assert status == 0
    assert len(fit.commands) == 3
    assert "[1/3] baseline seed 8: finished in 0:00, 90.00 percent" in text
    assert {task.action for task in plan(2)} == {"keep"}
    assert not list(Path("runs").rglob(".claim*"))


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


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_so_many_runs_are_made_at_once_as_were_asked_for(record_run: RecordRun, jobs: int) -> None:
    fit = FakeFit(record_run)
    assert run(plan(2), fit, jobs)[0] == 0
    assert len(fit.commands) == 4
    assert fit.most == jobs
    assert len({tuple(command) for command in fit.commands}) == 4


def test_ctrl_c_stops_the_runs_under_way_and_starts_no_other(record_run: RecordRun) -> None:
    def press_ctrl_c() -> None:
        raise KeyboardInterrupt

    fit = FakeFit(record_run, happens=press_ctrl_c)
    status, text = run(plan(2), fit, jobs=2)
    assert status == 130
    assert len(fit.commands) == fit.terminated == fit.waited_for == 2
    where = "[1/4] baseline seed 7, [2/4] baseline seed 8"
    assert f"interrupted in {where}; the same command goes on from here" in text
    assert {task.action for task in plan(2)} == {"train"}


def test_a_run_that_another_process_has_finished_meanwhile_is_not_done_twice(
    record_run: RecordRun,
) -> None:
    tasks = plan(1, ["operator"])
    record_run("operator", 7)
    fit = FakeFit(record_run)
    status, text = run(tasks, fit)
    assert (status, fit.commands) == (0, [])
    assert "left out, made-up-001 has finished by now" in text


def test_a_run_that_another_process_makes_is_waited_for_after_all_others(
    record_run: RecordRun,
) -> None:
    tasks = plan(1)
    claim = Claim.take(tasks[0].claim)
    assert claim is not None

    def finish_elsewhere() -> None:
        if fit.commands and Claim.is_taken(tasks[0].claim):
            record_run("baseline", 7)
            claim.release()

    fit = FakeFit(record_run, happens=finish_elsewhere)
    status, text = run(tasks, fit)
    assert status == 0
    assert [Path(command[4]).stem for command in fit.commands] == ["operator"]
    assert "baseline seed 7: another process is about to train it; waiting for it" in text
    assert "baseline seed 7: left out, made-up-001 has finished by now" in text


def test_a_run_is_taken_over_when_the_process_that_made_it_has_gone(record_run: RecordRun) -> None:
    live = RunRecord.open(record_run("baseline", 7, None, status="running").folder)
    fit = FakeFit(record_run, happens=live.close)
    assert run(plan(1), fit)[0] == 0
    assert [Path(command[4]).stem for command in fit.commands] == ["operator", "baseline"]
    assert {task.action for task in plan(1)} == {"keep"}


def test_a_process_that_does_not_wait_leaves_a_claimed_run_alone(record_run: RecordRun) -> None:
    tasks = plan(1, ["operator"])
    claim = Claim.take(tasks[0].claim)
    assert claim is not None
    fit = FakeFit(record_run)
    status, text = run(tasks, fit, waits=False)
    claim.release()
    assert (status, fit.commands) == (0, [])
    assert "left to another process" in text


def test_a_run_that_does_not_count_is_told_so(record_run: RecordRun) -> None:
    fit = FakeFit(record_run, overrides=["trainer.max_epochs=1"])
    status, text = run(plan(1, ["operator"]), fit)
    assert status == 1
    assert "finished in 0:00, but made-up-001 does not count: trainer.max_epochs was 1" in text


def test_a_terminal_shows_the_epoch_of_each_run_under_way(record_run: RecordRun) -> None:
    shown: list[str] = []
    console = Console(width=120, file=io.StringIO(), force_terminal=True)

    def train() -> None:
        facts = {"epochs": 4, "metrics": {"last": {"val/acc1": 0.875}, "test": {}}}
        if len(shown) == 0:
            live.append(record_run("operator", 7, None, status="running", **facts))
        shown.extend(str(task.fields["state"]) for task in pool._progress.tasks)

    live: list[RunRecord] = []
    fit = FakeFit(record_run, happens=train)
    pool = Pool(request(), plan(1, ["operator"]), console, start=fit)
    assert pool.run() == 0
    assert "epoch 5 of 15, val/acc1 87.50%" in shown
