from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest

from callbacks.checkpoints import BestCheckpoint
from callbacks.run_record import RunRecordCallback
from datamodules import DigitsDataModule
from lit_models import ImageClassifier


class Facts:
    """A record that only remembers."""

    def __init__(self) -> None:
        self.written: dict[str, Any] = {}
        self.metrics: dict[str, Any] = {}

    def update(self, **facts: Any) -> None:
        self.metrics |= facts.pop("metrics", {})
        self.written |= facts


class Finding(L.Callback):
    def run_facts(self) -> dict[str, Any]:
        return {"found": 42}


def run(folder: Path, holdout: int = 100) -> Facts:
    facts = Facts()
    model = ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        callbacks=[RunRecordCallback(facts), Finding(), BestCheckpoint(folder)],
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=2,
        limit_train_batches=3,
    )
    data = DigitsDataModule(batch_size=20, holdout=holdout, seed=0)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    return facts


def test_a_run_is_recorded_with_what_it_cost_and_what_came_out(tmp_path: Path) -> None:
    facts = run(tmp_path)
    written = facts.written
    assert written["epochs"] == 2
    assert written["steps"] == 6
    assert written["parameters"] == {"training": 3930, "fused": 3930}
    # 14x14 maps of 16 from 1 channel, 7x7 of 16 from 16, 4x4 of 10 from 16, 9 taps each.
    assert written["multiply_adds"] == 9 * (196 * 16 + 49 * 256 + 16 * 160)
    assert written["data"]["test"] == 360
    assert written["found"] == 42
    assert written["images_per_second"] > 0
    assert set(facts.metrics) == {"last", "best", "test"}
    assert set(facts.metrics["test"]) == {"test/acc1", "test/acc5", "test/loss"}
    assert {"train/loss", "val/acc1"} <= set(facts.metrics["last"])


def test_without_validation_there_is_no_best(tmp_path: Path) -> None:
    facts = run(tmp_path, holdout=0)
    assert set(facts.metrics) == {"last", "test"}
    assert not list(tmp_path.glob("best*"))


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 5000.0
        monkeypatch.setattr("callbacks.run_record.time.monotonic", lambda: self.now)

    def train(self, callback: RunRecordCallback, batches: int) -> None:
        for index in range(batches):
            callback.on_train_batch_start(TRAINER, None, IMAGES, index)  # type: ignore[arg-type]
            self.now += 1
            callback.on_train_batch_end(TRAINER, None, None, IMAGES, index)  # type: ignore[arg-type]


IMAGES = [[0] * 8]
TRAINER: Any = SimpleNamespace(
    world_size=1,
    is_global_zero=True,
    current_epoch=0,
    global_step=3,
    callback_metrics={},
    checkpoint_callbacks=[],
)


def resumed(callback: RunRecordCallback, facts: Facts) -> RunRecordCallback:
    other = RunRecordCallback(facts)
    other.load_state_dict(callback.state_dict())
    return other


@pytest.mark.parametrize("stopped_in", ["training", "validation", "nothing"])
def test_a_run_that_was_stopped_counts_the_seconds_of_both_parts(
    monkeypatch: pytest.MonkeyPatch, stopped_in: str
) -> None:
    clock, facts = Clock(monkeypatch), Facts()
    callback = RunRecordCallback(facts)
    callback.on_train_epoch_start(TRAINER, None)  # type: ignore[arg-type]
    clock.train(callback, 3 if stopped_in == "training" else 5)
    if stopped_in == "validation":
        callback.on_validation_start(TRAINER, None)  # type: ignore[arg-type]
        clock.now += 7
    if stopped_in != "nothing":
        callback = resumed(callback, facts)
        clock.now += 1000
        clock.train(callback, 2 if stopped_in == "training" else 0)
    callback.on_train_epoch_end(TRAINER, None)  # type: ignore[arg-type]
    assert facts.written["training_seconds"] == 5
    assert facts.written["images_per_second"] == 8
