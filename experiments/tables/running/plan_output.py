"""What `table run` prints before it trains anything."""

from collections.abc import Sequence

from rich.console import Console

from experiments.tables.cells import CellColumn
from experiments.tables.reports.committed import committed_runs
from experiments.tables.running.estimating import Estimate, estimate, span, total
from experiments.tables.running.planning import Request, Task
from experiments.tables.terminal import print_grid, say


def show_plan(request: Request, tasks: Sequence[Task], console: Console, jobs: int = 1) -> None:
    """Print what will be trained, what is there already, and how long it will take.

    Args:
        request: What is to be run.
        tasks: The plan.
        console: Where.
        jobs: How many runs at once.
    """
    estimates = estimate(request, tasks)
    columns = [
        CellColumn("row", [task.row.key for task in tasks]),
        CellColumn("seed", [str(task.seed) for task in tasks]),
        CellColumn("", [task.action for task in tasks], words=True),
        CellColumn("estimated", _spans(tasks, estimates)),
        CellColumn("why", [task.why for task in tasks], words=True),
    ]
    recipe = f", other recipe: {request.recipe}" if request.recipe else ""
    print_grid(console, columns, f"{request.table.id}: plan{recipe}")
    to_do = [e for task, e in zip(tasks, estimates, strict=True) if task.is_to_do]
    say(console, f"{len(to_do)} of {len(tasks)} runs to train{_time(to_do, jobs)}")
    if committed := _committed(request, tasks):
        say(console, f"{committed} of them have a committed run, and are trained again here")
    _warn(request, tasks, console)


def _spans(tasks: Sequence[Task], estimates: Sequence[Estimate | None]) -> list[str]:
    each = zip(tasks, estimates, strict=True)
    return [span(estimate) if task.is_to_do else "" for task, estimate in each]


def _time(estimates: Sequence[Estimate | None], jobs: int) -> str:
    if not estimates:
        return ""
    origins = dict.fromkeys(each.origin for each in estimates if each)
    source = f" (from {' and '.join(origins)})" if origins else ""
    at_once = f" with {jobs} at once" if jobs > 1 else ""
    return f"; estimated time{at_once} {total(estimates, jobs)}{source}"


def _committed(request: Request, tasks: Sequence[Task]) -> int:
    """How many runs to train are known in results/."""
    if request.recipe or request.options:
        return 0
    known = {(run.row, run.record.seed) for run in committed_runs(request.table)}
    return sum(task.is_to_do and (task.row.key, task.seed) in known for task in tasks)


def _warn(request: Request, tasks: Sequence[Task], console: Console) -> None:
    """Say which runs will not count for the rows as published."""
    rows = {task.row.key: task.row for task in tasks}
    against = [change for row in rows.values() for change in request.changes(row)]
    keys = ", ".join(dict.fromkeys(change.partition(" was ")[0] for change in against))
    if keys:
        say(console, f"runs made with other values of {keys} will not count for the table")
    if keys and request.recipe:
        report = f"table report {request.table.id} --recipe {request.recipe}"
        say(console, f"they count under this recipe: {report}")
    if request.recipe and not keys:
        say(console, f"{request.recipe} changes nothing that matters: these runs count")
