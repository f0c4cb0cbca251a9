"""Stops training at the first loss that is not finite, and names its step and samples."""

from typing import NamedTuple

import torch
from torch import Tensor


class NonFiniteLossError(RuntimeError):
    """The loss is NaN or infinite.

    Args:
        message: One line for the reader.
        step: Optimisation step, from 0.
        indices: The samples of its batch.
    """

    def __init__(self, message: str, step: int, indices: list[int]) -> None:
        super().__init__(message)
        self.step = step
        self.indices = indices


class _Pending(NamedTuple):
    loss: Tensor
    copied: torch.Event
    where: str
    step: int
    indices: Tensor


class FiniteLossGuard:
    """Looks at every loss; on a GPU one step later, so that nobody waits for the device.

    The one step of delay is harmless as long as no checkpoint is written in between: call `flush`
    before one is.
    """

    def __init__(self) -> None:
        self._pending: _Pending | None = None

    def check(self, loss: Tensor, step: int, where: str, indices: Tensor) -> None:
        """Look at the loss of optimisation step `step`.

        Args:
            loss: Scalar.
            step: Optimisation step, from 0.
            where: Epoch and batch in words.
            indices: Samples of the batch, `(N,)`.

        Raises:
            NonFiniteLossError: This loss, or on a GPU the one before it, is not finite.
        """
        self.flush()
        if not loss.is_cuda:
            _raise_unless_finite(float(loss.detach()), step, where, indices)
            return
        on_host = loss.detach().to("cpu", non_blocking=True)
        copied = torch.Event(loss.device)
        copied.record()
        self._pending = _Pending(on_host, copied, where, step, indices)

    def flush(self) -> None:
        """Look at the loss that is still waiting, if there is one.

        Raises:
            NonFiniteLossError: It is not finite.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.copied.synchronize()
            _raise_unless_finite(float(pending.loss), pending.step, pending.where, pending.indices)


def _raise_unless_finite(loss: float, step: int, where: str, indices: Tensor) -> None:
    if loss - loss == 0:  # false for NaN and both infinities
        return
    samples = indices.tolist()
    shown = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
    raise NonFiniteLossError(
        f"loss is {loss} at step {step} ({where}, samples {shown}); lower the learning rate, clip "
        "gradients (--trainer.gradient_clip_val 1.0) or look at these samples",
        step,
        samples,
    )
