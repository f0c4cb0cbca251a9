import copy
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor

from callbacks import EMACallback
from datamodules import DigitsDataModule
from lit_models import ImageClassifier
from lit_models.optimization import OptimizerSettings


def module() -> ImageClassifier:
    torch.manual_seed(0)
    settings = OptimizerSettings(lr=0.05)
    return ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1, optimizer=settings)


def data() -> DigitsDataModule:
    return DigitsDataModule(batch_size=32, holdout=50, seed=0)


def trainer(folder: Path, *callbacks: L.Callback, epochs: int = 2) -> L.Trainer:
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=epochs,
        limit_train_batches=4,
    )


class Watch(L.Callback):
    """Keeps the first weight as it is after each step and in each evaluation."""

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.evaluated: dict[str, Tensor] = {}

    def on_train_batch_end(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.trained.append(pl_module.network.conv1.weight.detach().clone())

    def on_validation_batch_start(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.evaluated["val"] = pl_module.network.conv1.weight.detach().clone()

    def on_test_batch_start(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.evaluated["test"] = pl_module.network.conv1.weight.detach().clone()

    def on_predict_batch_start(self, _: Any, pl_module: Any, *__: Any) -> None:
        self.evaluated["predict"] = pl_module.network.conv1.weight.detach().clone()


def averaged(weights: list[Tensor], ema: EMACallback) -> Tensor:
    average = weights[0].clone()
    for number, weight in enumerate(weights[1:], start=2):
        decay = ema.decay_at(number)
        average = decay * average + (1 - decay) * weight
    return average


@pytest.mark.parametrize("warmup", [False, True])
def test_every_evaluation_uses_the_averaged_weights(tmp_path: Path, warmup: bool) -> None:
    ema, watch = EMACallback(decay=0.8, warmup=warmup), Watch()
    model, fitter = module(), trainer(tmp_path, ema, watch)
    fitter.fit(model, datamodule=data())
    expected = averaged(watch.trained, ema)
    torch.testing.assert_close(watch.evaluated["val"], expected)
    fitter.test(model, datamodule=data(), verbose=False)
    torch.testing.assert_close(watch.evaluated["test"], expected)
    fitter.predict(model, datamodule=data())
    torch.testing.assert_close(watch.evaluated["predict"], expected)


def test_a_checkpoint_that_the_same_trainer_loads_back_is_tested_averaged(tmp_path: Path) -> None:
    ema, watch = EMACallback(decay=0.8), Watch()
    model, fitter = module(), trainer(tmp_path, ema, watch)
    fitter.fit(model, datamodule=data())
    fitter.save_checkpoint(tmp_path / "end.ckpt")
    expected = watch.evaluated["val"]
    watch.evaluated.clear()
    fitter.test(model, datamodule=data(), ckpt_path=tmp_path / "end.ckpt", verbose=False)
    torch.testing.assert_close(watch.evaluated["test"], expected)


def test_a_resumed_average_is_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    whole = Watch()
    trainer(tmp_path, EMACallback(decay=0.8, warmup=True), whole).fit(module(), datamodule=data())
    half = trainer(tmp_path, EMACallback(decay=0.8, warmup=True), epochs=1)
    saved = tmp_path / "half.ckpt"

    class Save(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
            trainer.save_checkpoint(saved)

    half.callbacks.append(Save())  # type: ignore[attr-defined]
    half.fit(module(), datamodule=data())
    resumed = Watch()
    second = trainer(tmp_path, EMACallback(decay=0.8, warmup=True), resumed)
    second.fit(module(), datamodule=data(), ckpt_path=saved, weights_only=True)
    assert torch.equal(resumed.evaluated["val"], whole.evaluated["val"])


def test_training_is_as_without_averaging(tmp_path: Path) -> None:
    with_average, without = Watch(), Watch()
    trainer(tmp_path, EMACallback(decay=0.8), with_average).fit(module(), datamodule=data())
    trainer(tmp_path, without).fit(module(), datamodule=data())
    assert all(map(torch.equal, with_average.trained, without.trained))


def test_the_decay_warms_up_as_in_timm() -> None:
    ema = EMACallback(decay=0.99, warmup=True)
    assert [ema.decay_at(n) for n in (1, 10, 10_000)] == [2 / 11, 11 / 20, 0.99]
    assert EMACallback(decay=0.99).decay_at(1) == 0.99


def test_updates_can_be_rarer() -> None:
    ema = EMACallback(update_every_n_steps=3)
    assert [step for step in range(9) if ema.should_update(step_idx=step)] == [2, 5, 8]
    assert not ema.should_update(epoch_idx=1)


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"decay": -0.1}, {"update_every_n_steps": 0}])
def test_an_argument_out_of_its_range_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        EMACallback(**options)


def test_it_can_be_copied(tmp_path: Path) -> None:
    assert copy.deepcopy(EMACallback(decay=0.5)).decay == 0.5


def test_an_evaluation_that_fails_leaves_the_trained_weights_in(tmp_path: Path) -> None:
    class Fail(L.Callback):
        def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            if not trainer.sanity_checking:
                raise RuntimeError("struck")

    ema, watch, model = EMACallback(decay=0.8), Watch(), module()
    with pytest.raises(RuntimeError, match="struck"):
        trainer(tmp_path, ema, watch, Fail()).fit(model, datamodule=data())
    assert torch.equal(model.network.conv1.weight, watch.trained[-1])
