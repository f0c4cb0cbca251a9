"""Lets a signal stop a run without losing anything: between two steps, on all devices at once."""

import os
import signal
import threading
from collections.abc import Iterable
from types import FrameType
from typing import Any

import lightning as L
import torch


class StopRequested(SystemExit):
    """The run stops because a signal asked for it.

    Args:
        number: The signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = signal.Signals(number)


class StopOnSignal(L.Callback):
    """Stops training before the first step after a signal; raises `StopRequested` on all devices.

    A signal comes at any moment, and on several devices at a different one on each. So its handler
    only notes it, and before each optimisation step all devices agree whether one of them was
    signalled. Between steps the state can be saved and resumed exactly. Validation is finished
    first. A second Ctrl-C does not wait. Outside `fit` there is nothing to save and a signal stops
    at once.

    Args:
        signals: The signals to stop at.
    """

    def __init__(self, signals: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT)) -> None:
        self.signals = tuple(signals)
        self._received = 0
        self._process = 0

    def on_sanity_check_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen from here on: Lightning has just set its own handlers, and restores the old ones.

        Its handlers talk to other devices, or save, from wherever the signal finds them.
        """
        self._listen(self._note)

    on_train_start = on_sanity_check_start

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Outside `fit`, stop at once."""
        if trainer.state.fn != "fit":
            self._listen(_stop_at_once)

    on_test_start = on_validation_start
    on_predict_start = on_validation_start

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop, if a device was signalled and the gradients of a step are not half gathered."""
        if batch_idx % trainer.accumulate_grad_batches:
            return
        received: Any = self._received
        if trainer.world_size > 1:
            tensor = torch.tensor(received, device=pl_module.device)
            received = int(trainer.strategy.reduce(tensor, reduce_op="max"))
        if received:
            raise StopRequested(received)

    def _listen(self, handler: Any) -> None:
        self._process = os.getpid()
        if threading.current_thread() is threading.main_thread():
            for number in self.signals:
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a process that loads data: it stops when this one does
        if self._received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = number
        if number == signal.SIGINT:
            # `print` may be what the signal interrupted.
            os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    raise StopRequested(number)
