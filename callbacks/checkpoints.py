"""The checkpoints that every run keeps: last, best, and the last good state on an exception."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn
from torch.optim import Optimizer

from lit_models.finite_loss import NonFiniteLossError

LAST = "last"


class LastCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`, written at the end of each epoch.

    Args:
        dirpath: The run's checkpoint folder.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__(
            dirpath,
            filename=LAST,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt` by a validation metric; idle in runs that have no validation.

    Args:
        dirpath: The run's checkpoint folder.
        monitor: Metric to compare, logged in validation.
        mode: Whether `max` or `min` is better.
    """

    def __init__(self, dirpath: str | Path, monitor: str = "val/acc1", mode: str = "max") -> None:
        super().__init__(
            dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )


class ExceptionCheckpoint(Checkpoint):
    """Brings `last.ckpt` up to date when training ends by an exception or a signal.

    The state is written only where resuming from it continues exactly: between optimiser steps, on
    a boundary of gradient accumulation, and never after a non-finite loss. Otherwise the checkpoint
    of the last epoch stays as it is.

    Args:
        dirpath: The run's checkpoint folder.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__()
        self.path = Path(dirpath) / f"{LAST}.ckpt"
        self._in_step = False

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """From here on the weights are changing."""
        self._in_step = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """The step is done and counted."""
        self._in_step = False

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint if the state is one to resume from."""
        loop = trainer.fit_loop.epoch_loop
        batches: Any = loop.batch_progress.current
        resumable = (
            trainer.state.fn == "fit"
            and not trainer.sanity_checking
            and trainer.global_step > 0
            and not self._in_step
            and batches.processed % trainer.accumulate_grad_batches == 0
            and not isinstance(exception, NonFiniteLossError)
            # Several devices would have to save together, and some of them may be gone.
            and trainer.world_size == 1
        )
        if not resumable:
            return
        try:
            trainer.save_checkpoint(self.path)
        except Exception as error:
            rank_zero_warn(f"could not write {self.path}: {error}; the one before it stays")
