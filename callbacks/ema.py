"""Exponential moving average of the weights, under every evaluation."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMACallback(WeightAveraging):
    """Averages the weights after each optimisation step and evaluates the averaged ones.

    Lightning's `EMAWeightAveraging`, with two differences: test and prediction use the averaged
    weights as validation does, also when the Trainer that wrote a checkpoint loads it back; and the
    decay can warm up as in timm, so that a short run is not held back by its first weights.

    Args:
        decay: Weight of the average at each update, at least 0 and below 1.
        warmup: Use min(decay, (1 + n) / (10 + n)) at the n-th update.
        update_every_n_steps: Optimisation steps from one update to the next.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self, decay: float = 0.9999, warmup: bool = False, update_every_n_steps: int = 1
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; it must be at least 0 and below 1")
        if update_every_n_steps < 1:
            raise ValueError(f"update_every_n_steps is {update_every_n_steps}; at least 1")
        super().__init__(use_buffers=True, multi_avg_fn=self._average)
        self.decay = decay
        self.warmup = warmup
        self.update_every_n_steps = update_every_n_steps
        self._updates = 0
        self._is_in = False

    def decay_at(self, update: int) -> float:
        """Weight of the average at the n-th update, from 1."""
        return min(self.decay, (1 + update) / (10 + update)) if self.warmup else self.decay

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Update after every n-th optimisation step."""
        if step_idx is None or (step_idx + 1) % self.update_every_n_steps:
            return False
        self._updates = (step_idx + 1) // self.update_every_n_steps
        return True

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the averaged weights in."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._is_in = True

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back."""
        super().on_validation_epoch_end(trainer, pl_module)
        self._is_in = False

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Put the trained weights back: the state may be saved now."""
        if self._is_in:
            self.on_validation_epoch_end(trainer, pl_module)

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the averaged weights in."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back."""
        self.on_validation_epoch_end(trainer, pl_module)

    def on_predict_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the averaged weights in."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the trained weights back."""
        self.on_validation_epoch_end(trainer, pl_module)

    def _average(self, averaged: Any, current: Any, _: Tensor | int) -> None:
        # The number of updates is counted here and not read from the tensor that torch gives,
        # which on a GPU would have to be waited for.
        average: Any = get_ema_multi_avg_fn(self.decay_at(self._updates))  # type: ignore[no-untyped-call]
        average(averaged, current, 0)
