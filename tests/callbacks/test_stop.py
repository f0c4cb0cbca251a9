import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from callbacks.stop import StopOnSignal, StopRequested


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def trainer(**changes: Any) -> Any:
    state = {"state": SimpleNamespace(fn="fit"), "accumulate_grad_batches": 1, "world_size": 1}
    return SimpleNamespace(**{**state, **changes})


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_training_before_the_next_step(number: signal.Signals) -> None:
    callback, training = StopOnSignal(), trainer()
    callback.on_train_start(training, None)  # type: ignore[arg-type]
    callback.on_train_batch_start(training, None, None, 0)  # type: ignore[arg-type]
    send(number)
    with pytest.raises(StopRequested) as stop:
        callback.on_train_batch_start(training, None, None, 1)  # type: ignore[arg-type]
    assert stop.value.signal == number


def test_gradients_half_gathered_are_gathered_first() -> None:
    callback, training = StopOnSignal(), trainer(accumulate_grad_batches=3)
    callback.on_train_start(training, None)  # type: ignore[arg-type]
    send(signal.SIGTERM)
    for batch in (1, 2):
        callback.on_train_batch_start(training, None, None, batch)  # type: ignore[arg-type]
    with pytest.raises(StopRequested):
        callback.on_train_batch_start(training, None, None, 3)  # type: ignore[arg-type]


def test_a_second_interrupt_does_not_wait(capfd: pytest.CaptureFixture[str]) -> None:
    callback = StopOnSignal()
    callback.on_train_start(trainer(), None)  # type: ignore[arg-type]
    send(signal.SIGINT)
    assert "Ctrl-C again stops at once" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_a_second_sigterm_does_wait() -> None:
    callback = StopOnSignal()
    callback.on_train_start(trainer(), None)  # type: ignore[arg-type]
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    with pytest.raises(StopRequested):
        callback.on_train_batch_start(trainer(), None, None, 0)  # type: ignore[arg-type]


def test_a_device_stops_because_another_was_signalled() -> None:
    callback = StopOnSignal()

    def greatest(received: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "max"
        return torch.tensor(max(int(received), signal.SIGTERM))

    several = trainer(world_size=2, strategy=SimpleNamespace(reduce=greatest))
    module = SimpleNamespace(device="cpu")
    with pytest.raises(StopRequested) as stop:
        callback.on_train_batch_start(several, module, None, 0)  # type: ignore[arg-type]
    assert stop.value.signal == signal.SIGTERM


def test_evaluation_stops_at_once() -> None:
    testing = trainer(state=SimpleNamespace(fn="test"))
    StopOnSignal().on_test_start(testing, None)  # type: ignore[arg-type]
    with pytest.raises(StopRequested):
        send(signal.SIGTERM)


def test_validation_in_training_does_not_stop_at_once() -> None:
    callback = StopOnSignal()
    callback.on_train_start(trainer(), None)  # type: ignore[arg-type]
    callback.on_validation_start(trainer(), None)  # type: ignore[arg-type]
    send(signal.SIGTERM)
