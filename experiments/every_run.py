"""What every run has without asking: its callbacks."""

from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, LearningRateMonitor

from callbacks.checkpoints import BestCheckpoint, ExceptionCheckpoint, LastCheckpoint
from callbacks.model_summary import DeployedModelSummary
from callbacks.progress_bar import RunProgressBar
from callbacks.run_record import RunRecordCallback
from callbacks.step_seed import StepSeed
from experiments.session import RunSession


def callbacks_of_every_run(session: RunSession, trainer: Any, logs: bool) -> list[Callback]:
    """Return the callbacks to put beside those of the config.

    Args:
        session: The run.
        trainer: The Trainer's config; what it switches off stays off.
        logs: Whether the run has a logger.
    """
    folder: Path = session.folder / "checkpoints"
    callbacks: list[Callback] = [StepSeed(session.seed), RunRecordCallback(session.record)]
    if trainer.enable_model_summary is not False:
        callbacks.append(DeployedModelSummary())
    if trainer.enable_progress_bar is not False:
        callbacks.append(RunProgressBar())
    if logs:
        callbacks.append(LearningRateMonitor(logging_interval="step"))
    if session.arguments.command == "fit" and trainer.enable_checkpointing is not False:
        callbacks += [BestCheckpoint(folder), LastCheckpoint(folder), ExceptionCheckpoint(folder)]
    return callbacks
