"""Anneals the temperature of KernelWarehouse's attentions."""

import math
from typing import Any, Literal

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import rank_zero_warn

from lit_models.classifier import network_of
from lit_models.kernel_warehouse import set_temperature

Schedule = Literal["linear", "cosine", "constant"]


class KWAttentionTemperatureCallback(L.Callback):
    """Moves the temperature from `start` to 0 over the first epochs (KernelWarehouse, Section 3.4).

    The temperature is a pure function of the optimisation step, so a resumed run, gradient
    accumulation, several devices and a shortened epoch all have the right one. As in the papers'
    schedule the first step is already one step below `start`. Evaluation during the annealing uses
    the temperature of the last step, also with averaged weights.

    Args:
        epochs: Length of the annealing; 20 in the papers, 15 for MobileNetV2.
        start: Temperature before the first step, 0 to 1.
        schedule: `linear` is the papers'; `cosine` and `constant` (at `start`, for ever) are there
            to compare.

    Raises:
        ValueError: An argument is out of its range, or the network has no attention.
    """

    def __init__(
        self, epochs: float = 20, start: float = 1.0, schedule: Schedule = "linear"
    ) -> None:
        if epochs <= 0:
            raise ValueError(f"epochs is {epochs}; the annealing must have a length above 0")
        if not 0 <= start <= 1:
            raise ValueError(f"start is {start}; a temperature lies between 0 and 1")
        if schedule not in ("linear", "cosine", "constant"):
            raise ValueError(f"schedule is {schedule!r}; it is linear, cosine or constant")
        self.epochs = epochs
        self.start = start
        self.schedule = schedule

    def temperature(self, step: int, steps_per_epoch: float) -> float:
        """Temperature of optimisation step `step`, counted from 1."""
        if self.schedule == "constant":
            return self.start
        left = max(0.0, 1 - step / (self.epochs * steps_per_epoch))
        if self.schedule == "cosine":
            left = 0.5 * (1 - math.cos(math.pi * left))
        return self.start * left

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that there is something to anneal."""
        if stage == "fit":
            set_temperature(network_of(pl_module), self.start)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn where training will end before the annealing does."""
        steps = self.epochs * _steps_per_epoch(trainer)
        if self.schedule != "constant" and trainer.estimated_stepping_batches < steps:
            rank_zero_warn(
                f"training ends after {trainer.estimated_stepping_batches} steps, before the "
                f"temperature reaches 0 after {steps:g}: lower the callback's epochs "
                f"({self.epochs:g}) or train longer"
            )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the temperature of the step that this batch belongs to."""
        value = self.temperature(trainer.global_step + 1, _steps_per_epoch(trainer))
        set_temperature(network_of(pl_module), value)
        # An average of temperatures would lag behind; averaged weights have the present one.
        for callback in getattr(trainer, "callbacks", []):
            average = getattr(callback, "_average_model", None)
            if isinstance(callback, WeightAveraging) and average is not None:
                set_temperature(network_of(average.module), value)
        pl_module.log("kernel_warehouse/temperature", value)


def _steps_per_epoch(trainer: L.Trainer) -> int:
    return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
