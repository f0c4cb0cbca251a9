from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from callbacks.checkpoints import ExceptionCheckpoint
from lit_models.finite_loss import NonFiniteLossError


class FakeTrainer(SimpleNamespace):
    """A Trainer's state, as far as the decision whether to save looks at it."""

    def __init__(self, **changes: Any) -> None:
        processed = changes.pop("processed", 4)
        progress = SimpleNamespace(current=SimpleNamespace(processed=processed))
        state = {
            "fit_loop": SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
            "state": SimpleNamespace(fn="fit"),
            "sanity_checking": False,
            "global_step": 4,
            "accumulate_grad_batches": 1,
            "world_size": 1,
            "saved": [],
        }
        super().__init__(**{**state, **changes})

    def save_checkpoint(self, path: Path) -> None:
        self.saved.append(path)


def saved_on(trainer: FakeTrainer, exception: BaseException, in_step: bool = False) -> bool:
    callback = ExceptionCheckpoint("folder")
    if in_step:
        callback.on_before_optimizer_step(trainer, None, None)  # type: ignore[arg-type]
    callback.on_exception(trainer, None, exception)  # type: ignore[arg-type]
    return trainer.saved == [Path("folder/last.ckpt")]


def test_between_steps_the_state_is_saved() -> None:
    assert saved_on(FakeTrainer(), KeyboardInterrupt())
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
    assert not saved_on(FakeTrainer(**changes), KeyboardInterrupt())


def test_a_step_half_done_is_not_saved() -> None:
    assert not saved_on(FakeTrainer(), KeyboardInterrupt(), in_step=True)


def test_weights_after_a_non_finite_loss_are_not_saved() -> None:
    assert not saved_on(FakeTrainer(), NonFiniteLossError("loss is nan", 3, []))


def test_a_checkpoint_that_cannot_be_written_does_not_hide_the_exception() -> None:
    class FullDisk(FakeTrainer):
        def save_checkpoint(self, path: Path) -> None:
            raise OSError(28, "No space left on device")

    with pytest.warns(UserWarning, match="the one before it stays"):
        assert not saved_on(FullDisk(), KeyboardInterrupt())
