"""Randomness of a training step as a pure function of (seed, epoch, batch, rank)."""

import os
from typing import Any

import lightning as L
import numpy as np
import torch


class StepSeed(L.Callback):
    """Reseeds the global generators before each training batch.

    Dropout, stochastic depth and augmentation then draw the same numbers in a resumed run as in an
    uninterrupted one, however often and wherever it was interrupted, and whatever validation drew
    in between. Each rank draws its own.

    Args:
        seed: The run's seed; None reads what `seed_everything` has set.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed torch's generators (CPU and accelerator) and numpy's for this batch."""
        key = (self.seed, trainer.current_epoch, batch_idx, trainer.global_rank)
        for_torch, for_numpy = np.random.SeedSequence(key).generate_state(2)
        # `torch.manual_seed` would also queue a seed for every kind of device that is absent, with
        # a stack trace: half a millisecond a step, and memory that grows.
        torch.default_generator.manual_seed(int(for_torch))
        if pl_module.device.type != "cpu":
            torch.get_device_module(pl_module.device).manual_seed(int(for_torch))
        np.random.seed(for_numpy)  # timm's Mixup draws from it
