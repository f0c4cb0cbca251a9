"""The progress bar: Lightning's, with the numbers that matter."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar

SHOWN = ("train/loss_step", "val/loss", "val/acc1")


class RunProgressBar(RichProgressBar):
    """A rich progress bar that shows loss and top-1 only, and redraws every tenth batch."""

    def __init__(self) -> None:
        super().__init__(refresh_rate=10)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The metrics to show."""
        metrics = super().get_metrics(trainer, pl_module)
        return {name: metrics[name] for name in SHOWN if name in metrics}

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Redraw if it is time: Lightning's would fetch the metrics from a GPU at every step."""
        if trainer.is_last_batch or (batch_idx + 1) % self.refresh_rate == 0:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
