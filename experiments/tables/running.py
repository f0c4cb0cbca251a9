"""`table run`: plan a table's runs, then train what is missing, one run after another."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from experiments.arguments import read_arguments
from experiments.tables.cells import CellColumn
from experiments.tables.comparison import measured
from experiments.tables.rows import RowRuns, changes, gather_runs
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.terminal import print_grid, say

Action = Literal["keep", "leave", "train"]
SECONDS_TO_STOP = 120


class Outcome(NamedTuple):
    """How a process ended: its exit status and the last line it printed."""

    status: int
    last_line: str


Runner = Callable[[Sequence[str]], Outcome]


@dataclass(frozen=True)
class Task:
    """One run of the plan.

    Attributes:
        row: What to train.
        seed: With which seed.
        action: `keep` what is there, `leave` it alone because it is running, or `train`.
        why: What is there already, and why it is trained again.
    """

    row: RowSpec
    seed: int
    action: Action
    why: str

    @property
    def name(self) -> str:
        """Row and seed."""
        return f"{self.row.key} seed {self.seed}"

    def command(self, runs: Path, options: Sequence[str] = ()) -> list[str]:
        """The words of the command that trains it, `python` aside."""
        given = ["--config", str(self.row.config), "--seed_everything", str(self.seed)]
        return ["-m", "experiments", "fit", *given, "--runs", str(runs), *options]


def plan_runs(table: TableSpec, rows: Sequence[RowSpec], seeds: int, runs: Path) -> list[Task]:
    """What has to be trained so that each row has runs with its first `seeds` seeds.

    Args:
        table: The table.
        rows: Rows of it.
        seeds: How many seeds, counted up from the one in the row's config.
        runs: Folder of all runs.
    """
    tasks = []
    for row in rows:
        first = _found(table, row, runs).first_seed
        tasks += [_task(table, row, seed, runs) for seed in range(first, first + seeds)]
    return tasks


def run_plan(
    table: TableSpec,
    tasks: Sequence[Task],
    runs: Path,
    options: Sequence[str],
    console: Console,
    runner: Runner | None = None,
) -> int:
    """Train what the plan says, one after another; a run that fails does not stop the others.

    Args:
        table: The table.
        tasks: The plan.
        runs: Folder of all runs.
        options: Further options of `fit`.
        console: Where progress is shown.
        runner: Runs a command; None for a process of its own.

    Returns:
        The exit status: 1 if a run failed, 130 after Ctrl-C, else 0.
    """
    to_train = [task for task in tasks if task.action == "train"]
    failed: list[tuple[Task, str]] = []
    started = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as progress:
        bar = progress.add_task("", total=len(to_train))
        for number, task in enumerate(to_train, 1):
            head = f"[{number}/{len(to_train)}] {task.name}"
            progress.update(bar, description=escape(head))
            try:
                reason, said = _train(table, task, runs, options, runner or run_process)
            except KeyboardInterrupt:
                progress.stop()
                say(console, f"interrupted in {head}; the same command goes on from here")
                return 130
            if reason:
                failed.append((task, reason))
            say(console, f"{head}: {said} ({_clock(time.monotonic() - started)} so far)")
            progress.advance(bar)
    if failed:
        say(console, f"{len(failed)} of {len(to_train)} runs failed; to see one fail again:")
        for task, reason in failed:
            command = shlex.join(["python", *task.command(runs, options)])
            say(console, f"  {task.name}: {reason}\n    {command}")
    return 1 if failed else 0


def show_plan(
    table: TableSpec, tasks: Sequence[Task], options: Sequence[str], console: Console
) -> None:
    """Print what will be trained, what is there already, and why something is trained again."""
    columns = [
        CellColumn("row", [task.row.key for task in tasks]),
        CellColumn("seed", [str(task.seed) for task in tasks]),
        CellColumn("", [task.action for task in tasks], words=True),
        CellColumn("why", [task.why for task in tasks], words=True),
    ]
    print_grid(console, columns, f"{table.id}: plan")
    count = sum(task.action == "train" for task in tasks)
    say(console, f"{count} of {len(tasks)} runs to train")
    overrides = read_arguments(["fit", *options]).overrides
    if against := changes({}, overrides, {}):
        keys = ", ".join(reason.partition(" was ")[0] for reason in against)
        say(console, f"runs made with other values of {keys} will not count for the table")


def run_process(words: Sequence[str]) -> Outcome:
    """Run `python WORDS` in a process of its own; Ctrl-C lets it write its record first."""
    with tempfile.TemporaryFile() as output:
        # In a group of its own the process gets exactly one signal, from here.
        process = subprocess.Popen(
            [sys.executable, *words],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            status = process.wait()
        except BaseException:
            _stop(process)
            raise
        output.seek(0)
        lines = output.read().decode(errors="replace").split("\n")
    return Outcome(status, next((line.strip() for line in lines[::-1] if line.strip()), ""))


def _found(table: TableSpec, row: RowSpec, runs: Path) -> RowRuns:
    return gather_runs(row, runs, table.reproduce.metric if table.reproduce else None)


def _task(table: TableSpec, row: RowSpec, seed: int, runs: Path) -> Task:
    found = _found(table, row, runs)
    if seed in found.counted:
        return Task(row, seed, "keep", f"{found.counted[seed].folder.name} has finished")
    others = [left for left in found.left_out if left.record.seed == seed]
    for left in others:
        if left.under_way:
            return Task(row, seed, "leave", f"{left.record.folder.name} is running")
    if others:
        why = f"{others[0].record.folder.name} does not count: {others[0].why}"
        return Task(row, seed, "train", why)
    return Task(row, seed, "train", "no run yet")


def _train(
    table: TableSpec, task: Task, runs: Path, options: Sequence[str], runner: Runner
) -> tuple[str | None, str]:
    """Train one run unless somebody else has; returns why it failed (None) and what to say."""
    now = _task(table, task.row, task.seed, runs)
    if now.action != "train":
        return None, f"left out, {now.why} by now"
    began = time.monotonic()
    outcome = runner(task.command(runs, options))
    took = _clock(time.monotonic() - began)
    after = _task(table, task.row, task.seed, runs)
    if outcome.status != 0:
        _, is_error, error = outcome.last_line.partition("error: ")
        reason = error if is_error else f"exit status {outcome.status}"
        return reason, f"failed after {took}: {reason}"
    if after.action != "keep":
        return None, f"finished in {took}, but {after.why}"
    value = measured(table, _found(table, task.row, runs).counted[task.seed])
    unit = table.column(table.reproduce.column).unit if table.reproduce else ""
    return None, f"finished in {took}" + ("" if value is None else f", {value:.2f} {unit}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # Not SIGINT, which what was started in a shell's background ignores.
    process.terminate()
    try:
        process.wait(SECONDS_TO_STOP)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
