"""The run record `run.json`: every fact about a run that tables, reports and dashboards read.

A run folder is `runs/<row>/<run id>/`, where the row is its config's path below `configs/` without
`.yaml`. The record is replaced as a whole (written aside, then renamed), so a reader never sees
half of one. While its process lives the record is locked; a record that says `running` and is not
locked is of a process that was killed.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from experiments.compose import merge
from experiments.whole_file import whole_file

State = Literal["running", "finished", "failed", "interrupted", "killed"]

FILE_NAME = "run.json"
LOCK_NAME = "run.lock"


class RunRecord:
    """One run's facts and the folder they lie in.

    Args:
        folder: The run folder.
        facts: What is known already.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = dict(facts)
        self._lock: IO[str] | None = None

    @classmethod
    def open(cls, folder: Path, **facts: Any) -> "RunRecord":
        """Create the folder's record, or continue the one there is, and lock it for this process.

        Raises:
            RuntimeError: Another process is running in this folder.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK_NAME, "w")  # noqa: SIM115 - held until the process ends
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise RuntimeError(f"another process is running in {folder}; wait for it") from None
        before = cls.read(folder)
        record = cls(folder, {**(before.facts if before else {}), **facts})
        record._lock = lock
        record.update()
        return record

    @classmethod
    def read(cls, folder: Path) -> "RunRecord | None":
        """The record in `folder`, None if there is none that can be read."""
        try:
            facts = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return cls(folder, facts) if isinstance(facts, dict) else None

    def update(self, **facts: Any) -> None:
        """Merge `facts` into the record and write it."""
        self.facts = merge(self.facts, facts)
        self.facts["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        with whole_file(self.folder / FILE_NAME) as aside:
            aside.write_text(json.dumps(self.facts, indent=2) + "\n", encoding="utf-8")

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def state(self) -> State:
        """How the run stands; `killed` if it says it runs and its process is gone."""
        status: State = self.facts.get("status", "killed")
        return "killed" if status == "running" and not self._is_locked() else status

    @property
    def seed(self) -> int | None:
        """Seed of the run."""
        return self.facts.get("seed")

    @property
    def declared(self) -> dict[str, Any]:
        """What the run's config files said."""
        declared: dict[str, Any] = self.facts.get("config", {}).get("declared", {})
        return declared

    @property
    def overrides(self) -> list[str]:
        """What its command line changed, as `key=value`."""
        overrides: list[str] = self.facts.get("config", {}).get("overrides", [])
        return overrides

    @property
    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint, None if none was written yet."""
        return self.checkpoint("last")

    def checkpoint(self, name: str) -> Path | None:
        """The checkpoint `last` or `best`, None if the run has none."""
        path = self.folder / "checkpoints" / f"{name}.ckpt"
        return path if path.is_file() else None

    def _is_locked(self) -> bool:
        if self._lock is not None:
            return True
        try:
            with open(self.folder / LOCK_NAME) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False


def row_of(config: Path) -> str:
    """Name of the row that a config file describes.

    The path below the folder `configs` without `.yaml`; the record's row for a run folder's own
    `config.yaml`; else the file's stem.
    """
    if config.name == "config.yaml":
        record = RunRecord.read(config.parent)
        if record is not None:
            return str(record.facts["row"])
    path = config.resolve().with_suffix("")
    for folder in path.parents:
        if folder.name == "configs":
            return path.relative_to(folder).as_posix()
    return path.name


def find_runs(runs: Path, row: str) -> Iterator[RunRecord]:
    """Records of a row's runs, newest first."""
    for file in sorted((runs / row).glob(f"*/{FILE_NAME}"), key=_started, reverse=True):
        record = RunRecord.read(file.parent)
        if record is not None:
            yield record


def _started(file: Path) -> str:
    record = RunRecord.read(file.parent)
    return str(record.facts.get("started", "")) if record else ""
