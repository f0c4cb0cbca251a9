"""What every run has without asking: its callbacks."""

import signal
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import Callback, LearningRateMonitor

from callbacks.batch_arithmetic import BatchArithmetic
from callbacks.checkpoints import BestCheckpoint, ExceptionCheckpoint, LastCheckpoint
from callbacks.confusion_matrix import ConfusionMatrix
from callbacks.detection_pictures import DetectionPictures
from callbacks.exact_evaluation import ExactEvaluation
from callbacks.first_batch_images import FirstBatchImages
from callbacks.histograms import Histograms
from callbacks.model_summary import DeployedModelSummary
from callbacks.progress_bar import RunProgressBar
from callbacks.run_record import RunRecordCallback
from callbacks.step_seed import StepSeed
from callbacks.stop import StopOnSignal
from experiments.session import RunSession
from experiments.slurm import REQUEUE_SIGNAL, slurm_run_id


def first_callbacks(session: RunSession, config: Any) -> list[Callback]:
    """Return the callbacks that are called before those of the config.

    Args:
        session: The run.
        config: The command's whole config.
    """
    signals = [signal.SIGTERM, signal.SIGINT]
    if slurm_run_id() is not None:
        signals.append(REQUEUE_SIGNAL)
    return [
        StopOnSignal(signals),
        BatchArithmetic(config.published_batch, config.keep_published_batch, config.scale_lr),
        StepSeed(session.seed),
        ExactEvaluation(),
    ]


def last_callbacks(session: RunSession, config: Any, logs: bool) -> list[Callback]:
    """Return the callbacks that are called after those of the config.

    Args:
        session: The run.
        config: The command's whole config; what its Trainer switches off stays off.
        logs: Whether the run has a logger.
    """
    folder: Path = session.folder / "checkpoints"
    trainer = config.trainer
    callbacks: list[Callback] = [
        RunRecordCallback(session.record),
        FirstBatchImages(session.folder),
        ConfusionMatrix(session.folder),
        DetectionPictures(session.folder),
    ]
    if config.histograms is not None:
        callbacks.append(Histograms(session.folder, config.histograms))
    if trainer.enable_model_summary is not False:
        callbacks.append(DeployedModelSummary())
    if trainer.enable_progress_bar is not False:
        callbacks.append(RunProgressBar())
    if logs:
        callbacks.append(LearningRateMonitor(logging_interval="step"))
    if session.arguments.command == "fit" and trainer.enable_checkpointing is not False:
        callbacks += [BestCheckpoint(folder), LastCheckpoint(folder), ExceptionCheckpoint(folder)]
    return callbacks
