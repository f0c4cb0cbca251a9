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
