"""Claims: of several `table run` processes only one makes a run.

A claim is a locked file. The lock goes with its process, however that ends, and with the run that
it has started: a run that outlives a killed `table run` keeps the claim until it is done.
"""

import fcntl
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from experiments.tables.rows import digest
from experiments.tables.spec import RowSpec

# A look at whether a file is claimed locks it for a moment, which is no claim.
_TRIES, _PAUSE = 5, 0.02


def claim_file(runs: Path, row: RowSpec, declared: Mapping[str, Any], seed: int) -> Path:
    """The file that stands for a row's run with this seed and what it was asked for."""
    assert row.name is not None
    return runs / row.name / f".claim-seed{seed}-{digest(declared)[:8]}"


class Claim:
    """A run that this process has claimed.

    Args:
        path: Its file.
        file: The same, open and locked.
    """

    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path = path
        self._file = file

    @classmethod
    def take(cls, path: Path) -> "Claim | None":
        """Claim a run; None if another process has claimed it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(_TRIES):
            file = open(path, "w")  # noqa: SIM115 - held until the run is done
            if _lock(file) and _is_file_at(file, path):
                return cls(path, file)
            file.close()
            time.sleep(_PAUSE)
        return None

    @staticmethod
    def is_taken(path: Path) -> bool:
        """Whether a living process has claimed the run."""
        try:
            with open(path) as file:
                return not _lock(file)
        except FileNotFoundError:
            return False

    def fileno(self) -> int:
        """Descriptor for the process that makes the run, which so keeps the claim."""
        return self._file.fileno()

    def release(self) -> None:
        """Give the claim up: the run is done."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_file_at(file: IO[str], path: Path) -> bool:
    """Whether nobody has released, and so removed, the file between its opening and its locking."""
    try:
        return os.fstat(file.fileno()).st_ino == path.stat().st_ino
    except FileNotFoundError:
        return False
