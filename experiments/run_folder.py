"""Which folder a run lives in, and which run a checkpoint continues."""

import secrets
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from experiments.compose import ConfigError
from experiments.record import RunRecord, find_runs
from experiments.slurm import slurm_run_id, was_requeued


class RunFolder(NamedTuple):
    """A run's folder and the checkpoint that it starts from, if any."""

    path: Path
    checkpoint: str | None


def choose_run_folder(
    command: str, runs: Path, row: str, seed: int | None, ckpt_path: str | None
) -> RunFolder:
    """Return the folder for a run: a new one, or that of the run which is continued.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        runs: Folder of all runs.
        row: Name of the row.
        seed: The run's seed.
        ckpt_path: A checkpoint, or `last` or `best` for that of this row's and seed's newest run.
            A `fit` from an unfinished run's checkpoint continues in that run's folder. A SLURM
            job that was requeued continues with its last checkpoint, whatever it was started from.

    Raises:
        ConfigError: There is no such checkpoint, or the run it belongs to has finished.
    """
    requeued = RunRecord.read(runs / row / str(slurm_run_id()))
    if requeued is not None and requeued.last_checkpoint is not None:
        return RunFolder(requeued.folder, str(requeued.last_checkpoint))
    if command == "fit" and ckpt_path == "last":
        record = _run_to_resume(runs, row, seed)
        return RunFolder(record.folder, str(record.last_checkpoint))
    if ckpt_path in ("last", "best"):
        return RunFolder(_new_folder(runs, row), _newest_checkpoint(runs, row, seed, ckpt_path))
    if ckpt_path is None:
        return RunFolder(_new_folder(runs, row), None)
    path = Path(ckpt_path)
    if not path.is_file():
        raise ConfigError(f"no checkpoint {path}")
    if command == "fit":
        owner = RunRecord.read(path.resolve().parents[1])
        if owner is not None and owner.state not in ("finished", "running"):
            last = owner.last_checkpoint if was_requeued() else None
            return RunFolder(owner.folder, str(last or ckpt_path))
    return RunFolder(_new_folder(runs, row), ckpt_path)


def _fits(runs: Path, row: str, seed: int | None) -> Iterator[RunRecord]:
    for record in find_runs(runs, row):
        if record.facts.get("command") == "fit" and record.seed == seed:
            yield record


def _newest_checkpoint(runs: Path, row: str, seed: int | None, name: str) -> str:
    for record in _fits(runs, row, seed):
        checkpoint = record.checkpoint(name)
        if checkpoint is not None:
            return str(checkpoint)
    raise ConfigError(f"no run of {row} with seed {seed} below {runs} has a checkpoint {name}")


def _run_to_resume(runs: Path, row: str, seed: int | None) -> RunRecord:
    begun = [record for record in _fits(runs, row, seed) if record.last_checkpoint is not None]
    if not begun:
        raise ConfigError(
            f"nothing to resume: no run of {row} with seed {seed} below {runs} has a checkpoint "
            "yet; leave --ckpt_path out to start one"
        )
    unfinished = [record for record in begun if record.state != "finished"]
    if not unfinished:
        raise ConfigError(
            f"the last run of {row} with seed {seed} has finished ({begun[0].folder}); leave "
            "--ckpt_path out to start a new one"
        )
    if unfinished[0].state == "running":
        raise ConfigError(f"{unfinished[0].folder} is still running; nothing to resume")
    return unfinished[0]


def _new_folder(runs: Path, row: str) -> Path:
    if name := slurm_run_id():
        return runs / row / name
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return runs / row / f"{now}-{secrets.token_hex(2)}"
