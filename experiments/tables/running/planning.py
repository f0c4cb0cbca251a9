"""The plan of `table run`: what is done already, what is under way, what is left to train."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from experiments.arguments import is_scale, read_arguments
from experiments.compose import ConfigError
from experiments.tables.rows import RowRuns, changes, declared_by, gather_runs
from experiments.tables.running.claims import Claim, claim_file
from experiments.tables.spec import RowSpec, TableSpec

Action = Literal["keep", "leave", "resume", "train"]

_SET_HERE = ("--seed_everything", "--runs", "--recipe", "--ckpt_path", "-c")


@dataclass(frozen=True)
class Request:
    """What is to be run.

    Attributes:
        table: The table.
        runs: Folder of all runs.
        recipe: A config file above those of the rows, None for the rows as they are.
        options: Further options of `fit`.
    """

    table: TableSpec
    runs: Path
    recipe: Path | None = None
    options: tuple[str, ...] = ()

    def found(self, row: RowSpec) -> RowRuns:
        """What has been run of a row, as it is asked for here."""
        metric = self.table.reproduce.metric if self.table.reproduce else None
        return gather_runs(row, self.runs, metric, self.recipe, self.options)

    def check(self) -> None:
        """Look at the options.

        Raises:
            ConfigError: One of them is set by `table run` itself, or would rename the row.
        """
        for option in self.options:
            if option.partition("=")[0] in _SET_HERE:
                raise ConfigError(f"{option} does not belong after --: `table run` sets it")
        for file in read_arguments(["fit", *self.options]).config_files:
            if not is_scale(file):
                raise ConfigError(
                    f"--config {file} does not belong after --: there it is a file of "
                    "configs/scale; a recipe is given by --recipe before --"
                )

    def changes(self, row: RowSpec) -> list[str]:
        """What makes its runs other ones than those that count for the row as published."""
        asked = declared_by(row, self.recipe, self.options)
        return changes(declared_by(row), [], asked)


@dataclass(frozen=True)
class Task:
    """One run of the plan.

    Attributes:
        row: What to train.
        seed: With which seed.
        action: `keep` what is there, `leave` it alone because it is being made, `resume` what was
            interrupted, or `train`.
        why: What is there already, and why it is trained again.
        claim: The file that stands for the run.
        declared: What the row's config, the recipe and the options say.
        checkpoint: Where a run that is resumed goes on from.
        epochs_done: Epochs that it has behind it.
    """

    row: RowSpec
    seed: int
    action: Action
    why: str
    claim: Path
    declared: Mapping[str, Any]
    checkpoint: Path | None = None
    epochs_done: int = 0

    @property
    def name(self) -> str:
        """Row and seed."""
        return f"{self.row.key} seed {self.seed}"

    @property
    def is_to_do(self) -> bool:
        """Whether there is something to train."""
        return self.action in ("resume", "train")

    @property
    def epochs(self) -> int | None:
        """Epochs of the whole run, None if its config does not say."""
        epochs = (self.declared.get("trainer") or {}).get("max_epochs")
        return epochs if isinstance(epochs, int) and epochs > 0 else None

    def command(self, request: Request) -> list[str]:
        """The words of the command that trains it, `python` aside."""
        words = ["-m", "experiments", "fit", "--config", str(self.row.config)]
        if request.recipe is not None:
            words += ["--recipe", str(request.recipe)]
        words += ["--seed_everything", str(self.seed), "--runs", str(request.runs)]
        if self.checkpoint is not None:
            words += ["--ckpt_path", str(self.checkpoint)]
        return [*words, *request.options]


def plan_runs(
    request: Request, rows: Sequence[RowSpec], seeds: int, first_seed: int | None = None
) -> list[Task]:
    """What has to be trained so that each row has runs with `seeds` seeds.

    Args:
        request: What is to be run.
        rows: Rows of its table.
        seeds: How many seeds, counted up.
        first_seed: The first of them; None for the one in each row's config.
    """
    tasks = []
    for row in rows:
        found = request.found(row)
        first = found.first_seed if first_seed is None else first_seed
        tasks += [_task(request, found, seed) for seed in range(first, first + seeds)]
    return tasks


def look_again(request: Request, task: Task, *, claimed: bool = False) -> Task:
    """The same task as things stand now.

    Args:
        request: What is to be run.
        task: The task as it was.
        claimed: Whether this process holds the claim on it.
    """
    return _task(request, request.found(task.row), task.seed, claimed)


def _task(request: Request, found: RowRuns, seed: int, claimed: bool = False) -> Task:
    claim = claim_file(request.runs, found.row, found.declared, seed)

    def task(action: Action, why: str, **more: Any) -> Task:
        return Task(found.row, seed, action, why, claim, found.declared, **more)

    if seed in found.counted:
        return task("keep", f"{found.counted[seed].folder.name} has finished")
    others = [left for left in found.left_out if left.record.seed == seed]
    for left in others:
        if left.under_way:
            return task("leave", f"{left.record.folder.name} is running")
    if not claimed and Claim.is_taken(claim):
        return task("leave", "another process is about to train it")
    for left in others:
        if checkpoint := left.checkpoint:
            done = int(left.record.facts.get("epochs", 0))
            why = f"{left.record.folder.name}: {left.why}, {done} epochs done"
            return task("resume", why, checkpoint=checkpoint, epochs_done=done)
    if others:
        return task("train", f"{others[0].record.folder.name} does not count: {others[0].why}")
    return task("train", "no run yet")
