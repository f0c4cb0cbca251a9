"""What Lightning spends at every step on what nobody uses, spared."""

import inspect
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler

STEP_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
BATCH_HOOKS = (
    *STEP_HOOKS,
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
)
_NOTHING = nullcontext()


class NoProfiler(PassThroughProfiler):
    """What a run without a profiler has: Lightning's makes a hundred generators a step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return _NOTHING


def skip_unused_hooks(hooked: Iterable[Callback | L.LightningModule]) -> None:
    """Have the Trainer pass over the hooks of a batch that a callback or module leaves empty.

    A dozen callbacks with half a dozen hooks each are a tenth of a millisecond a step. The Trainer
    skips a hook that is not callable, so an empty one becomes None; but of a module it asks what
    arguments the hooks with a batch have.
    """
    for one in hooked:
        module = isinstance(one, L.LightningModule)
        base: type = L.LightningModule if module else Callback
        for hook in STEP_HOOKS if module else BATCH_HOOKS:
            if getattr(type(one), hook) is getattr(base, hook):
                setattr(one, hook, None)


def remember_signature(module: L.LightningModule) -> None:
    """Have the arguments of `training_step` looked at once: the Trainer does so at each step."""
    step: Any = type(module).training_step
    step.__signature__ = inspect.signature(step)
