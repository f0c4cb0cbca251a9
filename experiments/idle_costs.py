"""What Lightning spends at every step on what nobody uses, spared."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.profilers import PassThroughProfiler

BATCH_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
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


def skip_unused_hooks(callbacks: Iterable[Callback]) -> None:
    """Have the Trainer pass over the hooks of a batch that a callback leaves empty.

    A dozen callbacks with half a dozen hooks each are a tenth of a millisecond a step. The Trainer
    skips a hook that is not callable, so an empty one becomes None.
    """
    for callback in callbacks:
        for hook in BATCH_HOOKS:
            if getattr(type(callback), hook) is getattr(Callback, hook):
                setattr(callback, hook, None)
