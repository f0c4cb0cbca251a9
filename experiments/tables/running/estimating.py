"""How long the runs of a plan will take, as far as earlier runs tell."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from experiments.record import RunRecord, find_runs
from experiments.tables.reports.committed import committed_runs
from experiments.tables.rows import changes
from experiments.tables.running.planning import Request, Task
from experiments.tables.spec import RowSpec

# A run that differs in nothing else took its time for the same epochs.
_SCALED = "trainer.max_epochs was "


class Cost(NamedTuple):
    """What a run took: seconds for every epoch, and those that do not depend on their number."""

    epoch: float
    fixed: float


class Estimate(NamedTuple):
    """Seconds that a run will take, from `low` to `high`, and what says so."""

    low: float
    high: float
    origin: str


def estimate(request: Request, tasks: Sequence[Task]) -> list[Estimate | None]:
    """Estimate each task, None where nothing is known of its row nor of any other.

    A row's own runs come first, then its committed ones, whose machine may have been another. Then
    those of the table's other rows: as their networks are not as large, from the least to the most
    that one of them took. All are scaled by epochs, and by nothing else.
    """
    rows = request.table.select(None)
    own = {row.key: list(_costs_here(request, row)) for row in rows}
    records = [(run.row, run.record) for run in committed_runs(request.table)]
    committed = {
        row.key: [cost for key, record in records if key == row.key for cost in _cost(record)]
        if all(change.startswith(_SCALED) for change in request.changes(row))
        else []
        for row in rows
    }
    return [
        _estimate(task, costs, origin)
        for task in tasks
        for costs, origin in [_best(task, own, committed)]
    ]


def total(estimates: Iterable[Estimate | None], jobs: int = 1) -> str:
    """All of them in words, so many at once; empty if there are none."""
    estimates = list(estimates)
    known = [each for each in estimates if each is not None]
    if not known:
        return "unknown" if estimates else ""
    lows, highs = [each.low for each in known], [each.high for each in known]
    # No sooner than the longest one, however many run beside it.
    low, high = (max(sum(ends) / jobs, max(ends)) for ends in (lows, highs))
    unknown = len(estimates) - len(known)
    return span(Estimate(low, high, "")) + (f", {unknown} of unknown length" if unknown else "")


def span(estimate: Estimate | None) -> str:
    """`2:10`, or `2:10 to 3:00` where it is not known better."""
    if estimate is None:
        return "unknown"
    low, high = clock(estimate.low), clock(estimate.high)
    return low if low == high else f"{low} to {high}"


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _best(
    task: Task, own: Mapping[str, Sequence[Cost]], committed: Mapping[str, Sequence[Cost]]
) -> tuple[Sequence[Cost], str]:
    key = task.row.key
    if own[key]:
        return own[key], "this row's runs"
    if committed[key]:
        return committed[key], "this row's committed runs"
    if others := [cost for costs in own.values() for cost in costs]:
        return others, "other rows' runs"
    return [cost for costs in committed.values() for cost in costs], "other rows' committed runs"


def _estimate(task: Task, costs: Sequence[Cost], origin: str) -> Estimate | None:
    if not task.is_to_do or not costs or task.epochs is None:
        return None
    left = max(task.epochs - task.epochs_done, 0)
    seconds = [cost.epoch * left + cost.fixed for cost in costs]
    return Estimate(min(seconds), max(seconds), origin)


def _costs_here(request: Request, row: RowSpec) -> Iterator[Cost]:
    assert row.name is not None
    declared = request.found(row).declared
    for record in find_runs(request.runs, row.name):
        if record.facts.get("command") == "fit" and record.state == "finished":
            others = changes(record.declared, record.overrides, declared)
            if all(change.startswith(_SCALED) for change in others):
                yield from _cost(record)


def _cost(record: RunRecord) -> Iterator[Cost]:
    seconds, epochs = record.facts.get("seconds"), record.facts.get("epochs")
    # A run that was resumed has its pause in its seconds.
    if seconds and epochs and not record.facts.get("resumed"):
        training = record.facts.get("training_seconds") or seconds
        yield Cost(training / epochs, max(seconds - training, 0.0))
