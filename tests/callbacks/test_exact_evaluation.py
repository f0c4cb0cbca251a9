from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from callbacks.exact_evaluation import ExactEvaluation
from datamodules import DigitsDataModule
from lit_models import ImageClassifier


class Watch(L.Callback):
    """Whether cuDNN may choose by measurement, in each kind of batch."""

    def __init__(self) -> None:
        self.benchmark: dict[str, bool] = {}

    def _see(self, stage: str) -> None:
        self.benchmark[stage] = torch.backends.cudnn.benchmark

    def on_train_batch_start(self, *_: Any) -> None:
        self._see("train")

    def on_validation_batch_start(self, *_: Any) -> None:
        self._see("val")

    def on_test_batch_start(self, *_: Any) -> None:
        self._see("test")

    def on_predict_batch_start(self, *_: Any) -> None:
        self._see("predict")


@pytest.mark.parametrize("in_training", [True, False])
def test_cudnn_does_not_choose_by_measurement_in_evaluation(
    tmp_path: Path, in_training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)  # put back afterwards
    watch = Watch()
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        benchmark=in_training,
        logger=False,
        callbacks=[ExactEvaluation(), watch],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_epochs=2,
        limit_train_batches=1,
    )
    model = ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    data = DigitsDataModule(batch_size=64, holdout=50, seed=0)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    trainer.predict(model, datamodule=data)
    expected = {"train": in_training, "val": False, "test": False, "predict": False}
    assert watch.benchmark == expected
    assert torch.backends.cudnn.benchmark == in_training
