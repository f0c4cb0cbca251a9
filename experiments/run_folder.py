"""Which folder a run lives in, and which run a checkpoint continues."""

import os
import secrets
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from experiments.compose import ConfigError
from experiments.record import RunRecord, find_runs

# The first process of a run tells those it starts where the run lives.
FOLDER_VARIABLE = "CONVSUITE_RUN_FOLDER"


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
        ckpt_path: A checkpoint, or `last` for the newest one of this row and seed. A `fit` from an
            unfinished run's checkpoint continues in that run's folder.

    Raises:
        ConfigError: There is no such checkpoint, or the run it belongs to has finished.
    """
    if FOLDER_VARIABLE in os.environ and "LOCAL_RANK" in os.environ:
        return RunFolder(Path(os.environ[FOLDER_VARIABLE]), ckpt_path)
    if ckpt_path == "last":
        record = _last_run(command, runs, row, seed)
        checkpoint = str(record.last_checkpoint)
        if command == "fit":
            return RunFolder(record.folder, checkpoint)
        return RunFolder(_new_folder(runs, row), checkpoint)
    if ckpt_path is None:
        return RunFolder(_new_folder(runs, row), None)
    path = Path(ckpt_path)
    if not path.is_file():
        raise ConfigError(f"no checkpoint {path}")
    if command == "fit":
        owner = RunRecord.read(path.resolve().parents[1])
        if owner is not None and owner.state not in ("finished", "running"):
            return RunFolder(owner.folder, ckpt_path)
    return RunFolder(_new_folder(runs, row), ckpt_path)


def _last_run(command: str, runs: Path, row: str, seed: int | None) -> RunRecord:
    records = [
        record
        for record in find_runs(runs, row)
        if record.facts.get("command") == "fit" and record.seed in (seed, None)
    ]
    with_checkpoint = [record for record in records if record.last_checkpoint is not None]
    if command != "fit":
        if with_checkpoint:
            return with_checkpoint[0]
        raise ConfigError(
            f"no checkpoint of {row} with seed {seed} below {runs / row}; fit it first"
        )
    unfinished = [record for record in with_checkpoint if record.state != "finished"]
    if not unfinished:
        if with_checkpoint:
            raise ConfigError(
                f"the last run of {row} with seed {seed} has finished "
                f"({with_checkpoint[0].folder}); leave --ckpt_path out to start a new one"
            )
        raise ConfigError(
            f"nothing to resume: no run of {row} with seed {seed} below {runs / row} has a "
            "checkpoint yet; leave --ckpt_path out to start one"
        )
    if unfinished[0].state == "running":
        raise ConfigError(f"{unfinished[0].folder} is still running; nothing to resume")
    return unfinished[0]


def _new_folder(runs: Path, row: str) -> Path:
    now = datetime.now().strftime("%Y%m%d-%H%M%S")
    return runs / row / f"{now}-{secrets.token_hex(2)}"
