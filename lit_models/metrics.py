"""What is counted in training and evaluation: exact over any number of devices."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric, MetricCollection


class MeanLoss(Metric):
    """Mean of the batches' mean losses, weighted by their numbers of samples; NaN without any.

    Unlike torchmetrics' `MeanMetric` it looks at no value, and so never waits for a GPU; a loss
    that is not finite makes the mean so. (With `nan_strategy="disable"`, `MeanMetric` 1.9 does
    without looking, too, but takes every weight for 1.)
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, count: int) -> None:
        """Add a batch of `count` samples with mean `loss`, a scalar."""
        # Not `+=`, which assigns, too: that is half the cost of this method.
        self.total.add_(loss * count)
        self.count.add_(count)

    def reset(self) -> None:
        """Forget what was counted; ready for training also where an evaluation ends."""
        with torch.inference_mode(False):
            super().reset()

    def compute(self) -> Tensor:
        """The mean."""
        return self.total / self.count


class EvaluationMetrics(nn.Module):
    """Loss, top-1, top-5 and the number of samples, exact over any number of devices.

    Args:
        accuracy: Top-1 and top-5.
    """

    def __init__(self, accuracy: MetricCollection) -> None:
        super().__init__()
        self.accuracy = accuracy.clone()
        self.restricted = accuracy.clone(postfix="_restricted")
        self.loss = MeanLoss()
        self.answers: Tensor | None = None

    def restrict(self, classes: Tensor | None) -> None:
        """Count top-1 and top-5 among some of the classes, too, as `acc1_restricted` and so on.

        Args:
            classes: Numbers of these classes, int64; None for no restricted metrics.
        """
        self.answers = classes

    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Count `logits (N, num_classes)` against `targets (N,)`."""
        self.accuracy.update(logits, targets)
        self.loss.update(F.cross_entropy(logits.float(), targets), len(targets))
        if self.answers is not None:
            closed = torch.full_like(logits, -torch.inf)
            self.restricted.update(
                closed.index_copy(1, self.answers, logits[:, self.answers]), targets
            )

    def compute(self) -> dict[str, Tensor]:
        """Values over all samples of all devices."""
        values: dict[str, Tensor] = dict(self.accuracy.compute())
        if self.answers is not None:
            values |= self.restricted.compute()
        with self.loss.sync_context():
            samples = self.loss.count.clone()
        return {**values, "loss": self.loss.compute(), "samples": samples}

    def reset(self) -> None:
        """Forget what was counted."""
        self.accuracy.reset()
        self.restricted.reset()
        self.loss.reset()
