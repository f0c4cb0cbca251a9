"""Sparing what nobody uses changes nothing for what somebody uses."""

import inspect
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel

from callbacks.checkpoints import BestCheckpoint, ExceptionCheckpoint, LastCheckpoint
from experiments.idle_costs import (
    BATCH_HOOKS,
    STEP_HOOKS,
    NoProfiler,
    remember_signature,
    skip_unused_hooks,
)


class _Recorder(NoProfiler):
    """Notes what the Trainer measures, which is what it calls."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def profile(self, action_name: str) -> Any:
        self.called.add(action_name)
        return super().profile(action_name)


class _Counter(L.Callback):
    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.batches += 1


class _Model(BoringModel):
    def __init__(self) -> None:
        super().__init__()
        self.backwards = 0

    def on_after_backward(self) -> None:
        self.backwards += 1


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[_Counter, set[str]]:
    counter, profiler = _Counter(), _Recorder()
    trainer: Any = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=3,
        limit_val_batches=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=[counter, ModelCheckpoint(tmp_path, every_n_train_steps=1)],
        profiler=profiler,
    )
    model = _Model()
    skip_unused_hooks([*trainer.callbacks, model])
    trainer.fit(model)
    assert model.backwards == 3
    return counter, profiler.called


def test_a_hook_that_a_callback_has_is_called(fitted: tuple[_Counter, set[str]]) -> None:
    counter, _ = fitted
    assert counter.batches == 3


def test_a_hook_that_a_callback_inherits_from_another_than_lightnings_base_is_called(
    fitted: tuple[_Counter, set[str]], tmp_path: Path
) -> None:
    assert (tmp_path / "epoch=0-step=3.ckpt").exists()


def test_a_hook_of_a_batch_that_a_callback_leaves_empty_is_passed_over(
    fitted: tuple[_Counter, set[str]],
) -> None:
    _, called = fitted
    ours = {name.split(".")[-1] for name in called if "[Callback]_Counter" in name}
    assert ours & set(BATCH_HOOKS) == {"on_train_batch_end"}
    assert "on_train_epoch_end" in ours


def test_a_hook_of_a_step_that_the_module_leaves_empty_is_passed_over(
    fitted: tuple[_Counter, set[str]],
) -> None:
    _, called = fitted
    module = {name.split(".")[-1] for name in called if "[LightningModule]_Model" in name}
    assert module & set(STEP_HOOKS) == {"on_after_backward"}
    assert "on_train_epoch_end" in module


def test_the_arguments_of_a_step_are_looked_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Model(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(batch_idx)
            return super().training_step(batch, batch_idx)

    looked, seen = [], []
    original = inspect._signature_from_function  # type: ignore[attr-defined]

    def look(kind: Any, function: Any, **options: Any) -> Any:
        looked.append(function)
        return original(kind, function, **options)

    monkeypatch.setattr(inspect, "_signature_from_function", look)
    model = Model()
    remember_signature(model)
    L.Trainer(accelerator="cpu", barebones=True, max_steps=3, max_epochs=1).fit(model)
    assert seen == [0, 1, 2]
    assert looked.count(Model.training_step) == 1


@pytest.mark.parametrize("kind", [LastCheckpoint, BestCheckpoint])
def test_checkpoints_of_epochs_look_at_no_batch(
    kind: type[ModelCheckpoint], tmp_path: Path
) -> None:
    checkpoint = kind(tmp_path)
    skip_unused_hooks([checkpoint])
    assert checkpoint.on_train_batch_end is None


def test_the_checkpoint_of_an_exception_looks_at_every_batch(tmp_path: Path) -> None:
    checkpoint = ExceptionCheckpoint(tmp_path)
    skip_unused_hooks([checkpoint])
    assert callable(checkpoint.on_train_batch_start)
    assert callable(checkpoint.on_train_batch_end)
