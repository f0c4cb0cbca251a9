from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from callbacks.step_seed import StepSeed


def draw(seed: int = 1, epoch: int = 0, batch: int = 0, rank: int = 0) -> float:
    trainer: Any = SimpleNamespace(current_epoch=epoch, global_rank=rank)
    module: Any = SimpleNamespace(device=torch.device("cpu"))
    StepSeed(seed).on_train_batch_start(trainer, module, None, batch)
    return torch.rand(1).item()


def test_a_batch_draws_the_same_numbers_whatever_was_drawn_before() -> None:
    first = draw(epoch=2, batch=5)
    torch.rand(17)
    assert draw(epoch=2, batch=5) == first


def test_every_seed_epoch_batch_and_rank_draws_its_own_numbers() -> None:
    drawn = [draw(s, e, b, r) for s in (0, 1) for e in (0, 1) for b in (0, 1) for r in (0, 1)]
    assert len(set(drawn)) == 16


def test_numpy_is_seeded_too() -> None:
    drawn = []
    for _ in range(2):
        draw(epoch=1)
        drawn.append(np.random.rand())
        np.random.rand(3)
    assert drawn[0] == drawn[1]


def test_nothing_is_queued_for_devices_that_are_absent() -> None:
    queued = len(torch.cuda._queued_calls)
    draw()
    assert len(torch.cuda._queued_calls) == queued


def test_the_runs_seed_is_taken_from_seed_everything(monkeypatch: object) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "77")  # type: ignore[attr-defined]
    assert StepSeed().seed == 77
