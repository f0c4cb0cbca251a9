"""The checkpoints that every run keeps: last, best, and the last good state on an exception."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.stop import StopRequested
from lit_models.finite_loss import NonFiniteLossError

LAST = "last"


class LastCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`, written at the end of each epoch.

    Args:
        dirpath: The run's checkpoint folder.
    """

    on_train_batch_end = L.Callback.on_train_batch_end  # it never saves there

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
        monitor: Metric to compare, logged in validation, if the module names no `selection_metric`.
        mode: Whether `max` or `min` is better.
    """

    on_train_batch_end = L.Callback.on_train_batch_end  # it never saves there

    def __init__(self, dirpath: str | Path, monitor: str = "val/acc1", mode: str = "max") -> None:
        super().__init__(
            dirpath,
            filename="best",
            monitor=monitor,
            mode=mode,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Compare by the metric that the module is selected by."""
        self.monitor = getattr(pl_module, "selection_metric", self.monitor)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the best checkpoint, also where the run's folder was moved."""
        before, now = str(state_dict.get("dirpath")), str(self.dirpath)
        if before != now and (Path(now) / "best.ckpt").is_file():
            state_dict = {name: _moved(value, before, now) for name, value in state_dict.items()}
        super().load_state_dict(state_dict)


def _moved(value: Any, before: str, now: str) -> Any:
    """The value with the new folder in all paths."""
    if isinstance(value, dict):
        return {_moved(key, before, now): item for key, item in value.items()}
    return value.replace(before, now, 1) if isinstance(value, str) else value


class ExceptionCheckpoint(Checkpoint):
    """Brings `last.ckpt` up to date when training ends by an exception or a signal.

    The state is written only where resuming from it continues exactly: between batches, on a
    boundary of gradient accumulation or in validation (which a resumed run does again from its
    first batch). It is not written after a non-finite loss, nor at a second Ctrl-C, which comes
    anywhere. Of several devices all must stop together, as they do at a signal; where one has
    failed, the others could wait for it for ever. Otherwise the checkpoint of the last epoch stays
    as it is.

    Args:
        dirpath: The run's checkpoint folder.
    """

    def __init__(self, dirpath: str | Path) -> None:
        super().__init__()
        self.path = Path(dirpath) / f"{LAST}.ckpt"
        self._in_batch = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on weights, and statistics of normalisation, are changing."""
        self._in_batch = True

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """The batch is done and counted."""
        self._in_batch = False

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Write the checkpoint if the state is one to resume from."""
        if not self._is_resumable(trainer, exception):
            return
        _prepare_progress(trainer)
        try:
            trainer.save_checkpoint(self.path, weights_only=False)
        except Exception as error:
            rank_zero_warn(f"could not write {self.path}: {error}; the one before it stays")

    def _is_resumable(self, trainer: L.Trainer, exception: BaseException) -> bool:
        batches: Any = trainer.fit_loop.epoch_loop.batch_progress
        whole_steps = batches.current.processed % trainer.accumulate_grad_batches == 0
        return (
            trainer.state.fn == "fit"
            and not trainer.sanity_checking
            and trainer.global_step > 0
            and not self._in_batch
            and (whole_steps or batches.is_last_batch)
            and not isinstance(exception, NonFiniteLossError | KeyboardInterrupt)
            and (trainer.world_size == 1 or isinstance(exception, StopRequested))
        )


def _prepare_progress(trainer: L.Trainer) -> None:
    """Make the loops' counters such that Lightning's restart counts nothing twice."""
    loop: Any = trainer.fit_loop.epoch_loop
    batches = loop.batch_progress
    if trainer.validating:
        # Validation was begun and no batch of it is done.
        progress = loop.val_loop.batch_progress
        progress.reset()
        progress.total.ready = progress.total.started = 1
    elif batches.current.processed == batches.current.completed:
        # The next batch was begun. A restarted loop counts its step at once, and later again.
        batches.total.ready = batches.total.completed + 1
        batches.current.ready = batches.current.completed + 1
        if not loop._should_accumulate():
            loop._batches_that_stepped -= 1
