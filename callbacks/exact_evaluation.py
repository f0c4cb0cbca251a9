"""What every evaluation needs to give the same numbers on any number of devices."""

from typing import Any

import lightning as L
import torch


class ExactEvaluation(L.Callback):
    """Evaluates one and the same network on all devices, with convolutions that do not vary.

    In training each device keeps its own statistics of batch normalisation. The first one's are
    those that checkpoints hold, so all devices evaluate with these. cuDNN's benchmark mode, which
    may choose another algorithm for another batch size, is off in validation, test and prediction.
    """

    def __init__(self) -> None:
        self._benchmark = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Switch the benchmark mode off."""
        self._benchmark = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = False

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take the first device's buffers: by now weight averaging has put its weights in."""
        if batch_idx == 0 and trainer.world_size > 1:
            for buffer in pl_module.buffers():
                torch.distributed.broadcast(buffer, src=0)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the benchmark mode back."""
        torch.backends.cudnn.benchmark = self._benchmark

    on_test_start = on_predict_start = on_validation_start
    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_end = on_predict_end = on_validation_end
