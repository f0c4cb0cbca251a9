"""One run from its opening to its end: its folder, its record, its resolved config."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from callbacks.stop import StopRequested
from experiments.arguments import Arguments
from experiments.checkpoint_io import SafeCheckpointIO
from experiments.environment import environment_facts
from experiments.errors import is_lost_peer, one_line
from experiments.launch import agree, forget
from experiments.record import RunRecord, row_of
from experiments.run_folder import choose_run_folder
from experiments.whole_file import whole_file

# Files in which processes other than the first leave why they failed.
_REASON = ".failed.json"


class RunSession:
    """A run that is being made; opening it makes or continues its folder and record.

    Of several processes only the first writes.

    Args:
        arguments: The command line.
        config: Its parsed values; `ckpt_path` becomes the path that `last` or `best` stands for.

    Raises:
        ConfigError: There is nothing to continue.
    """

    def __init__(self, arguments: Arguments, config: Any) -> None:
        self.arguments = arguments
        file = arguments.row_file
        self.row = row_of(file) if file else "unnamed"
        self.seed: int = config.seed_everything
        folder, checkpoint = agree(lambda: self._choose(config))
        self.folder = Path(folder)
        self.checkpoint: str | None = checkpoint
        config.ckpt_path = checkpoint
        self.rank = int(getattr(rank_zero_only, "rank", 0))
        self.is_first_process = self.rank == 0
        if self.is_first_process:
            self.record = self._open_record()
            self._reason_of_others()  # an earlier one is no reason any more
        else:
            self.record = RunRecord(self.folder, {})

    @property
    def first_step(self) -> int:
        """Optimisation step that training starts at: 0, or the checkpoint's."""
        if self.arguments.command != "fit" or self.checkpoint is None:
            return 0
        return int(SafeCheckpointIO().load_checkpoint(self.checkpoint)["global_step"])

    def save_config(self, resolved: str) -> None:
        """Write the resolved config, from which the same run can be made again."""
        if not self.is_first_process:
            return
        path = self.folder / "config.yaml"
        path.write_text(
            f"# {self.row}, fully resolved. The same run again:\n"
            f"# python -m experiments {self.arguments.command} --config {path}\n{resolved}",
            encoding="utf-8",
        )

    def close(self, error: BaseException | None = None) -> None:
        """Write how the run ended, and let go of its folder."""
        if not self.is_first_process:
            if error is not None:
                self._leave_reason(error)
            return
        forget()
        started = datetime.fromisoformat(self.record.facts["started"])
        facts: dict[str, Any] = {
            "ended": _now(),
            "seconds": round((datetime.now(UTC) - started).total_seconds(), 1),
            "status": "finished",
            "why": None,
        }
        if error is not None:
            facts |= _how_it_failed(error)
            if is_lost_peer(error):
                facts |= self._reason_of_others()
        try:
            self.record.update(**facts)
        except OSError as full:
            print(f"could not write {self.record.folder / 'run.json'}: {one_line(full)}")
        self.record.close()

    def how_to_resume(self) -> str:
        """What to tell somebody who interrupted the run."""
        if self.record.last_checkpoint is None:
            return "interrupted before the first checkpoint; start again"
        given, checkpoint = self.arguments.given_without("--ckpt_path"), "last"
        if given != self.arguments.given:  # this may not be the newest run
            checkpoint = str(self.record.last_checkpoint)
        command = ["python -m experiments", *given, "--ckpt_path", checkpoint]
        return f"interrupted; {self.record.last_checkpoint} is good. Go on with:\n  " + " ".join(
            command
        )

    def _choose(self, config: Any) -> list[str | None]:
        chosen = choose_run_folder(
            self.arguments.command, Path(config.runs), self.row, self.seed, config.ckpt_path
        )
        return [str(chosen.path), chosen.checkpoint]

    def _leave_reason(self, error: BaseException) -> None:
        """Tell the first process, which will only notice that this one is gone."""
        facts = _how_it_failed(error)
        if facts["status"] == "failed" and not is_lost_peer(error):
            facts["why"] = f"process {self.rank}: {facts['why']}"
            with whole_file(self.folder / f"{self.rank}{_REASON}") as aside:
                aside.write_text(json.dumps(facts), encoding="utf-8")

    def _reason_of_others(self) -> dict[str, Any]:
        """What another process left as the reason of its end, if one did."""
        facts: dict[str, Any] = {}
        for file in sorted(self.folder.glob(f"*{_REASON}"), reverse=True):
            facts = json.loads(file.read_text(encoding="utf-8"))
            file.unlink()
        return facts

    def _open_record(self) -> RunRecord:
        facts: dict[str, Any] = {
            "run_id": self.folder.name,
            "row": self.row,
            "command": self.arguments.command,
            "status": "running",
            "why": None,
            "seed": self.seed,
            "started": _now(),
            "config": {
                "files": [str(file) for file in self.arguments.config_files],
                "declared": self.arguments.composition.declared,
                "overrides": self.arguments.overrides,
            },
        }
        before = RunRecord.read(self.folder)
        if before is not None:
            facts["started"] = before.facts.get("started", facts["started"])
            facts["resumed"] = before.facts.get("resumed", 0) + 1
            # A run counts for a row only if it was that row's from beginning to end.
            earlier = before.facts.get("earlier_configs", [])
            if before.facts.get("config") != facts["config"]:
                earlier = [*earlier, before.facts.get("config")]
            facts["earlier_configs"] = earlier
        return RunRecord.open(self.folder, **facts, **environment_facts())


def _how_it_failed(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt | SystemExit):
        stopped_by = error.signal.name if isinstance(error, StopRequested) else "a signal"
        return {"status": "interrupted", "why": f"stopped by {stopped_by}"}
    facts: dict[str, Any] = {"status": "failed", "why": one_line(error)}
    if hasattr(error, "indices"):
        facts["samples"] = error.indices
    return facts


def _now() -> str:
    # Runs are sorted by when they started, and two can start within a second.
    return datetime.now(UTC).isoformat(timespec="milliseconds")
