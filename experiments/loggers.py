"""Where a run's metrics go: `metrics.csv` always, W&B beside it."""

import csv
import os
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter

from experiments.wandb_logger import ForgivingWandbLogger
from experiments.wandb_scheme import PROJECT, TrainedRow, identify
from experiments.whole_file import whole_file

WandbMode = Literal["auto", "online", "offline", "disabled"]


class RunCSVLogger(CSVLogger):
    """Writes `metrics.csv` into the run folder; a resumed run continues the file it finds.

    Args:
        folder: The run folder.
        first_step: Rows from this optimisation step on are dropped: they will be trained again.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        super().__init__(folder, name="", version="")
        self._first_step = first_step

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The writer of `metrics.csv`."""
        if self._experiment is None:
            os.makedirs(self.root_dir, exist_ok=True)
            self._experiment = _ContinuingWriter(self.root_dir, self._first_step)
        return self._experiment


class _ContinuingWriter(ExperimentWriter):
    def __init__(self, folder: str, first_step: int) -> None:
        self._first_step = first_step
        super().__init__(folder)

    def _check_log_dir_exists(self) -> None:
        # Lightning deletes what it finds here; a resumed run goes on with it.
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            self.metrics_keys = list(reader.fieldnames or [])
            rows = [row for row in reader if int(float(row["step"])) < self._first_step]
        with whole_file(path) as aside, aside.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)

    def log_hparams(self, params: dict[str, Any]) -> None:
        """Nothing: `config.yaml` has them."""


def build_loggers(
    folder: Path, run: TrainedRow, wandb: WandbMode, first_step: int = 0
) -> list[Logger]:
    """Return the loggers of a run.

    Args:
        folder: The run folder; its name is the W&B run id, so that a resumed run continues there.
        run: What is trained.
        wandb: `auto` is online where the user is logged in and offline elsewhere.
        first_step: First optimisation step of this process.
    """
    loggers: list[Logger] = [RunCSVLogger(folder, first_step)]
    mode = _wandb_mode(wandb)
    if mode != "disabled":
        identity = identify(run)
        loggers.append(
            ForgivingWandbLogger(
                summary=identity.published,
                lines=identity.lines,
                first_step=first_step,
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                group=identity.group,
                name=identity.name,
                tags=list(identity.tags),
                config=identity.config,
                id=folder.name,
                resume="allow",
                save_dir=folder,
                offline=mode == "offline",
                # Asking whether the user is logged in fixes W&B's environment; this is read later.
                mode=mode,
            )
        )
    return loggers


def _wandb_mode(asked: WandbMode) -> WandbMode:
    os.environ.setdefault("WANDB_SILENT", "true")
    mode: str = os.environ.get("WANDB_MODE", asked) if asked == "auto" else asked
    if mode == "auto":
        import wandb

        try:
            return "online" if wandb.login(prompt=False) else "offline"
        except wandb.Error as error:
            print(f"W&B cannot be reached ({str(error).splitlines()[0]}); this run is offline")
            return "offline"
    known: dict[str, WandbMode] = {"online": "online", "disabled": "disabled"}
    return known.get(mode, "offline")
