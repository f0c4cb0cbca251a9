"""Live progress of `table run`: the whole plan, and the epoch of every run under way."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from experiments.record import RunRecord
from experiments.tables.running.planning import Request, Task


@dataclass
class _Bar:
    """A run's bar, and the folders that were there before it began."""

    id: TaskID
    before: set[Path] = field(default_factory=set)
    folder: Path | None = None


class PlanProgress(Progress):
    """A bar for the plan and one for each run under way; nothing where there is no terminal.

    Args:
        request: What is run.
        total: Runs to make.
        console: Where.
    """

    def __init__(self, request: Request, total: int, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
        )
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._request = request
        self._plan = self.add_task(escape(request.table.id), total=total, state="")
        self._bars: dict[str, _Bar] = {}

    def begin(self, task: Task) -> None:
        """Show a run."""
        id_ = self.add_task(f"  {escape(task.name)}", total=task.epochs, state="starting")
        folder = None if task.checkpoint is None else task.checkpoint.parents[1]
        self._bars[task.name] = _Bar(id_, set(self._folders(task)), folder)

    def look(self, task: Task) -> None:
        """Show how far a run is, as its record says."""
        if self.disable:
            return
        bar = self._bars[task.name]
        bar.folder = bar.folder or self._new_folder(task, bar)
        record = RunRecord.read(bar.folder) if bar.folder else None
        if record is None or record.facts.get("status") != "running":
            return
        done = record.facts.get("epochs", 0)
        self.update(bar.id, completed=done, state=_state(record, done, task.epochs))

    def end(self, task: Task, left: str) -> None:
        """Take a run away again.

        Args:
            task: The run.
            left: How long the others will take, empty if nobody knows.
        """
        self.remove_task(self._bars.pop(task.name).id)
        self.update(self._plan, state=f"about {left} left" if left else "")

    def count(self) -> None:
        """One run less to make."""
        self.advance(self._plan)

    def _folders(self, task: Task) -> list[Path]:
        assert task.row.name is not None
        return list((self._request.runs / task.row.name).glob("*"))

    def _new_folder(self, task: Task, bar: _Bar) -> Path | None:
        for folder in self._folders(task):
            record = RunRecord.read(folder) if folder not in bar.before else None
            if record is not None and record.seed == task.seed:
                return folder
        return None


def _state(record: RunRecord, done: int, epochs: int | None) -> str:
    if epochs is not None and done >= epochs:
        return "testing"
    text = f"epoch {done + 1}" + (f" of {epochs}" if epochs else "")
    accuracy = record.facts.get("metrics", {}).get("last", {}).get("val/acc1")
    return text if accuracy is None else f"{text}, val/acc1 {accuracy:.2%}"
