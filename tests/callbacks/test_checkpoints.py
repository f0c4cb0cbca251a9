import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.checkpoints import BestCheckpoint, ExceptionCheckpoint
from callbacks.stop import StopRequested
from lit_models.finite_loss import NonFiniteLossError


class FakeTrainer(SimpleNamespace):
    """A Trainer's state, as far as the decision whether to save looks at it."""

    def __init__(self, **changes: Any) -> None:
        processed = changes.pop("processed", 4)
        self.progress = SimpleNamespace(
            current=SimpleNamespace(processed=processed, completed=processed, ready=processed),
            total=SimpleNamespace(completed=processed, ready=processed),
            is_last_batch=changes.pop("is_last_batch", False),
        )
        loop = SimpleNamespace(
            batch_progress=self.progress, _should_accumulate=lambda: True, _batches_that_stepped=0
        )
        state = {
            "fit_loop": SimpleNamespace(epoch_loop=loop),
            "state": SimpleNamespace(fn="fit"),
            "sanity_checking": False,
            "validating": False,
            "global_step": 4,
            "accumulate_grad_batches": 1,
            "world_size": 1,
            "saved": [],
        }
        super().__init__(**{**state, **changes})

    def save_checkpoint(self, path: Path, weights_only: bool) -> None:
        self.saved.append(path)


def saved_on(trainer: FakeTrainer, exception: BaseException, in_batch: bool = False) -> bool:
    callback = ExceptionCheckpoint("folder")
    if in_batch:
        callback.on_train_batch_start(trainer, None, None, 4)  # type: ignore[arg-type]
    callback.on_exception(trainer, None, exception)  # type: ignore[arg-type]
    return trainer.saved == [Path("folder/last.ckpt")]


def test_between_batches_the_state_is_saved() -> None:
    assert saved_on(FakeTrainer(), StopRequested(signal.SIGTERM))
    assert saved_on(FakeTrainer(), MemoryError())


@pytest.mark.parametrize(
    "changes",
    [
        {"state": SimpleNamespace(fn="test")},
        {"sanity_checking": True},
        {"global_step": 0},
        {"accumulate_grad_batches": 3},
        {"world_size": 2},
    ],
)
def test_a_state_that_nothing_could_resume_from_is_not_saved(changes: dict[str, Any]) -> None:
    assert not saved_on(FakeTrainer(**changes), MemoryError())


def test_the_last_step_of_an_epoch_may_have_fewer_batches() -> None:
    assert saved_on(FakeTrainer(accumulate_grad_batches=3, is_last_batch=True), MemoryError())


def test_devices_that_stop_together_save_together() -> None:
    assert saved_on(FakeTrainer(world_size=2), StopRequested(signal.SIGTERM))


def test_a_batch_half_done_is_not_saved() -> None:
    assert not saved_on(FakeTrainer(), MemoryError(), in_batch=True)


@pytest.mark.parametrize(
    "exception", [NonFiniteLossError("loss is nan", 3, []), KeyboardInterrupt()]
)
def test_weights_that_may_be_spoiled_are_not_saved(exception: BaseException) -> None:
    assert not saved_on(FakeTrainer(), exception)


def test_a_checkpoint_that_cannot_be_written_does_not_hide_the_exception() -> None:
    class FullDisk(FakeTrainer):
        def save_checkpoint(self, path: Path, weights_only: bool) -> None:
            raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match="the one before it stays"):
        assert not saved_on(FullDisk(), MemoryError())


def best_of(folder: Path, score: float) -> BestCheckpoint:
    """The callback of a run whose best epoch had this score."""
    folder.mkdir()
    (folder / "best.ckpt").touch()
    callback, path = BestCheckpoint(folder), str(folder / "best.ckpt")
    callback.best_model_score = callback.best_k_models[path] = torch.tensor(score)
    callback.best_model_path = callback.kth_best_model_path = path
    callback.kth_value = torch.tensor(score)
    return callback


def test_a_run_whose_folder_was_moved_keeps_its_best_epoch(tmp_path: Path) -> None:
    state = best_of(tmp_path / "before", 0.9).state_dict()
    (tmp_path / "before").rename(tmp_path / "now")
    moved = BestCheckpoint(tmp_path / "now")
    moved.load_state_dict(state)
    assert moved.best_model_path == str(tmp_path / "now/best.ckpt")
    assert not moved.check_monitor_top_k(SimpleNamespace(strategy=_Alone()), torch.tensor(0.5))  # type: ignore[arg-type]
    assert moved.check_monitor_top_k(SimpleNamespace(strategy=_Alone()), torch.tensor(0.95))  # type: ignore[arg-type]


def test_a_new_run_from_anothers_checkpoint_has_a_best_epoch_of_its_own(tmp_path: Path) -> None:
    new = BestCheckpoint(tmp_path / "new")
    new.load_state_dict(best_of(tmp_path / "other", 0.9).state_dict())
    assert new.check_monitor_top_k(SimpleNamespace(strategy=_Alone()), torch.tensor(0.5))  # type: ignore[arg-type]


class _Alone:
    def reduce_boolean_decision(self, decision: bool) -> bool:
        return decision
