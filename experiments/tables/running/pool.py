"""`table run`: train what a plan says, several runs at once where asked, and none twice."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console

from experiments.tables.comparison import measured
from experiments.tables.running.claims import Claim
from experiments.tables.running.estimating import clock, estimate, total
from experiments.tables.running.planning import Request, Task, look_again
from experiments.tables.running.processes import LocalProcess, RunProcess, Start, shares
from experiments.tables.running.progress import PlanProgress
from experiments.tables.terminal import say

# Between two looks at the processes, and at a run that another process has claimed.
_SECONDS, _SECONDS_FOR_OTHERS = 0.2, 5.0


@dataclass
class _UnderWay:
    """A run that is being made here."""

    task: Task
    head: str
    claim: Claim
    process: RunProcess
    slot: int
    began: float


class Pool:
    """Makes the runs of a plan, each in a process of its own.

    A run that fails does not stop the others. What another process is making is looked at again
    until it is done, and taken over if that process has gone before.

    Args:
        request: What is to be run.
        tasks: The plan.
        console: Where progress is shown.
        jobs: How many runs at once.
        waits: Whether to wait for runs that other processes are making.
        start: Starts a process.
    """

    def __init__(
        self,
        request: Request,
        tasks: Sequence[Task],
        console: Console,
        *,
        jobs: int = 1,
        waits: bool = True,
        start: Start = LocalProcess,
    ) -> None:
        self._request = request
        self._console = console
        self._waits = waits
        self._start = start
        self._shares = shares(jobs)
        to_do = [task for task in tasks if task.is_to_do or task.action == "leave"]
        self._heads = {
            task.name: f"[{number}/{len(to_do)}] {task.name}"
            for number, task in enumerate(to_do, 1)
        }
        self._queue = list(to_do)
        self._look_at: dict[str, float] = {}  # when to look again at what others are making
        self._under_way: list[_UnderWay] = []
        self._failed: list[tuple[Task, str]] = []
        self._began = time.monotonic()
        self._progress = PlanProgress(request, len(to_do), console)

    def run(self) -> int:
        """Make the runs.

        Returns:
            The exit status: 1 if a run failed, 130 after Ctrl-C, else 0.
        """
        with self._progress:
            try:
                while self._queue or self._under_way:
                    self._start_runs()
                    self._collect()
                    if self._queue or self._under_way:
                        time.sleep(_SECONDS)
            except KeyboardInterrupt:
                self._stop()
                return 130
        if self._failed:
            number = f"{len(self._failed)} of {len(self._heads)}"
            self._say(f"{number} runs failed; to see one fail again:")
            for task, reason in self._failed:
                command = shlex.join(["python", *task.command(self._request)])
                self._say(f"  {task.name}: {reason}\n    {command}")
        return 1 if self._failed else 0

    def _start_runs(self) -> None:
        free = set(range(len(self._shares))) - {run.slot for run in self._under_way}
        for task in list(self._queue):
            if not free:
                return
            if time.monotonic() < self._look_at.get(task.name, 0.0):
                continue
            slot = min(free)
            if self._try(task, slot):
                free.remove(slot)

    def _try(self, task: Task, slot: int) -> bool:
        """Start a run, unless there is no need to or another process has claimed it."""
        head = self._heads[task.name]
        claim = Claim.take(task.claim)
        now = look_again(self._request, task, claimed=claim is not None)
        if claim is not None and now.is_to_do:
            self._queue.remove(task)
            self._begin(now, head, claim, slot)
            return True
        if claim is not None:
            claim.release()
        if now.action == "keep":
            self._queue.remove(task)
            self._done(f"{head}: left out, {now.why} by now")
        elif not self._waits:
            self._queue.remove(task)
            self._done(f"{head}: left to another process, {now.why}")
        else:
            if task.name not in self._look_at:
                self._say(f"{head}: {now.why}; waiting for it")
            self._look_at[task.name] = time.monotonic() + _SECONDS_FOR_OTHERS
        return False

    def _begin(self, task: Task, head: str, claim: Claim, slot: int) -> None:
        self._progress.begin(task)
        words = task.command(self._request)
        try:
            process = self._start(words, self._shares[slot], claim.fileno())
        except BaseException:
            claim.release()
            raise
        self._under_way.append(_UnderWay(task, head, claim, process, slot, time.monotonic()))
        if not self._console.is_terminal:
            self._say(f"{head}: {task.action}, {task.why}")

    def _collect(self) -> None:
        for run in list(self._under_way):
            outcome = run.process.poll()
            if outcome is None:
                self._progress.look(run.task)
                continue
            said, reason = self._outcome(run, outcome.reason)
            run.claim.release()
            self._under_way.remove(run)
            if reason:
                self._failed.append((run.task, reason))
            self._progress.end(run.task, self._left())
            self._done(f"{run.head}: {said} ({clock(time.monotonic() - self._began)} so far)")

    def _outcome(self, run: _UnderWay, reason: str | None) -> tuple[str, str | None]:
        """What to say of a run that has ended, and why it failed, None if it did not."""
        took = clock(time.monotonic() - run.began)
        if reason:
            return f"failed after {took}: {reason}", reason
        after = look_again(self._request, run.task, claimed=True)
        if after.action != "keep":
            return f"finished in {took}, but {after.why}", after.why
        record = self._request.found(run.task.row).counted[run.task.seed]
        value, table = measured(self._request.table, record), self._request.table
        unit = table.column(table.reproduce.column).unit if table.reproduce else ""
        return f"finished in {took}" + ("" if value is None else f", {value:.2f} {unit}"), None

    def _left(self) -> str:
        """How long the runs that are not finished will take, in words."""
        tasks = [*(run.task for run in self._under_way), *self._queue]
        known = estimate(self._request, tasks) if self._console.is_terminal else []
        return total(known, len(self._shares)) if known and all(known) else ""

    def _stop(self) -> None:
        self._progress.stop()
        for run in self._under_way:
            run.process.terminate()
        for run in self._under_way:
            run.process.wait()
            run.claim.release()
        where = ", ".join(run.head for run in self._under_way) or "before the next run"
        self._say(f"interrupted in {where}; the same command goes on from here")

    def _done(self, text: str) -> None:
        self._say(text)
        self._progress.count()

    def _say(self, text: str) -> None:
        say(self._console, text)
