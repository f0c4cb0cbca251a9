"""Where in the training a loader stands: asked of the Trainer, whose checkpoints hold it."""

import os
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer

Position = Callable[[], tuple[int, int]]


def start_of_first_epoch() -> tuple[int, int]:
    """Position of a loader that no training moves: epoch 0, batch 0."""
    return 0, 0


def position_in_training(trainer: Trainer | None) -> tuple[int, int]:
    """Epoch of the training, from 0, and how many batches of it have been begun."""
    if trainer is None:
        return start_of_first_epoch()
    # Not epoch_progress.current.processed: Lightning counts an epoch twice there when training
    # that is counted in steps resumes from a checkpoint of an epoch's end.
    epoch = trainer.current_epoch
    if getattr(trainer, "overfit_batches", 0):
        epoch = 0  # to overfit is to see the same batches in every epoch
    return epoch, trainer.fit_loop.epoch_loop.batch_progress.current.ready


def share_of_device(trainer: Trainer | None) -> dict[str, Any]:
    """Number of this device (`rank`) and of all devices (`world_size`); none without a Trainer."""
    if trainer is None:
        return {}
    return {"rank": trainer.global_rank, "world_size": trainer.world_size}


def seed_of_run(seed: int | None) -> int:
    """The given seed; without one the run's (seed_everything), else 0."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
