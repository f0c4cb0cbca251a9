from pathlib import Path
from typing import Any

import lightning as L

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
