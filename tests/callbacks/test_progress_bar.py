from pathlib import Path
from typing import Any

import lightning as L
import pytest
from media_shelf import quiet_trainer

from callbacks.progress_bar import RunProgressBar
from datamodules import DigitsDataModule
from lit_models import ImageClassifier


def test_metrics_are_fetched_when_the_bar_is_redrawn_and_not_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []
    get_metrics = RunProgressBar.get_metrics

    def noted(bar: RunProgressBar, trainer: L.Trainer, pl_module: L.LightningModule) -> Any:
        fetched.append(trainer.fit_loop.epoch_loop.batch_progress.current.ready)
        return get_metrics(bar, trainer, pl_module)

    monkeypatch.setattr(RunProgressBar, "get_metrics", noted)
    trainer = quiet_trainer(
        tmp_path,
        RunProgressBar(),
        max_epochs=1,
        limit_train_batches=23,
        limit_val_batches=0,
        enable_progress_bar=True,
    )
    model = ImageClassifier("mnist_demo_tensorflow", num_classes=10, in_chans=1)
    trainer.fit(model, datamodule=DigitsDataModule(batch_size=8, seed=0))
    assert fetched == [10, 20, 23, 23]  # the last one at the end of the epoch
