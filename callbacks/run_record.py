"""Keeps the run record up to date: what was trained, how it stands, what came out."""

import time
from typing import Any, Protocol

import lightning as L
from torch import Tensor

from lit_models import NetworkTraining
from lit_models.complexity import count_parameters, multiply_adds


class Record(Protocol):
    """Where the facts go: merged into the record and written at once."""

    def update(self, **facts: Any) -> None:
        """Merge `facts` and write."""


class RunRecordCallback(L.Callback):
    """Writes the facts of a run as they become known; only the first process writes.

    The data module and any other callback add what their method `run_facts() -> dict` returns; it
    is called in all processes at once.

    Args:
        record: Where the facts go.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._images = 0
        self._training_seconds = 0.0
        self._epoch_started = 0.0
        self._validation_seconds = 0.0
        self._validation_started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Counters that a resumed run continues, with what the epoch has had so far."""
        seconds = self._training_seconds + self._epoch_seconds()
        return {"images": self._images, "seconds": seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the counters."""
        self._images = state_dict["images"]
        self._training_seconds = state_dict["seconds"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Record what is trained, on what: before the weights may be sharded."""
        if stage != "fit":
            return
        facts: dict[str, Any] = {
            "data": getattr(_datamodule(trainer), "fingerprint", None),
            "devices": {
                "accelerator": type(trainer.accelerator).__name__,
                "world_size": trainer.world_size,
                "precision": str(trainer.precision),
            },
        }
        if isinstance(pl_module, NetworkTraining):
            deployed = pl_module.deployed()
            facts["parameters"] = {
                "training": count_parameters(pl_module.network),
                "fused": count_parameters(deployed),
            }
            input_size = getattr(_datamodule(trainer), "input_size", None)
            if input_size is not None:
                facts["multiply_adds"] = multiply_adds(deployed, input_size)
        self._write(trainer, **facts, **_facts_of_others(trainer))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the metrics of the epoch before; start the clock."""
        self._write_metrics(trainer)
        self._epoch_started = time.monotonic()
        self._validation_seconds = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock in an epoch that was resumed in the middle."""
        if not self._epoch_started:
            self._epoch_started = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the images."""
        self._images += len(batch[0]) * trainer.world_size

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the training clock."""
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the training clock go on."""
        self._validation_seconds += time.monotonic() - self._validation_started
        self._validation_started = 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the epoch; the module has not logged its metrics yet."""
        self._training_seconds += self._epoch_seconds()
        self._epoch_started = 0.0
        self._write(
            trainer,
            epochs=trainer.current_epoch + 1,
            steps=trainer.global_step,
            training_seconds=round(self._training_seconds, 3),
            images_per_second=round(self._images / max(self._training_seconds, 1e-9), 1),
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the metrics of the last epoch."""
        self._write_metrics(trainer)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record what the other callbacks found."""
        self._write(trainer, **_facts_of_others(trainer))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the test."""
        metrics = _numbers(trainer.callback_metrics)
        tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
        self._write(trainer, metrics={"test": tested}, **_facts_of_others(trainer))

    def _epoch_seconds(self) -> float:
        """Seconds that the epoch was trained; 0 between epochs, and where no batch is left."""
        if not self._epoch_started:
            return 0.0
        now = self._validation_started or time.monotonic()
        return now - self._epoch_started - self._validation_seconds

    def _write_metrics(self, trainer: L.Trainer) -> None:
        metrics = {"last": _numbers(trainer.callback_metrics)}
        best: Any = next((c for c in trainer.checkpoint_callbacks if _monitor(c)), None)
        if best is not None and best.best_model_score is not None:
            metrics["best"] = {best.monitor: float(best.best_model_score)}
        self._write(trainer, metrics=metrics)

    def _write(self, trainer: L.Trainer, **facts: Any) -> None:
        if trainer.is_global_zero and facts:
            self.record.update(**facts)


def _datamodule(trainer: L.Trainer) -> Any:
    return getattr(trainer, "datamodule", None)


def _monitor(callback: Any) -> str | None:
    monitor: str | None = getattr(callback, "monitor", None)
    return monitor


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _facts_of_others(trainer: L.Trainer) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for other in (_datamodule(trainer), *getattr(trainer, "callbacks", [])):
        if hasattr(other, "run_facts"):
            facts |= other.run_facts()
    return facts
