"""Networks in two forms that compute the same, and the calls that are timed."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.speed.item import Measured, Rounds, times_as_fast
from experiments.bench.timing import Run
from lit_models.classifier import put_channels_last


class Images(NamedTuple):
    """A batch of made-up images: how many, their side in pixels and their channels."""

    batch: int
    side: int
    channels: int = 3

    def __str__(self) -> str:
        return f"batch {self.batch}, {self.side} px"

    def draw(self) -> Tensor:
        """The images, noise `(N, C, side, side)`, the same ones at each call."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(self.batch, self.channels, self.side, self.side, generator=generator)


class TwoForms(NamedTuple):
    """A network twice, with the same weights: two ways to compute the same.

    Attributes:
        reference: What is measured against.
        ours: The suite's own.
    """

    reference: nn.Module
    ours: nn.Module


def training_step(network: nn.Module, images: Tensor) -> Run:
    """Return a call that makes one training step: both passes, and SGD with momentum."""
    network.train()
    # So small a rate that noise for images doesn't drive the weights out of bounds.
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.9)
    targets = torch.arange(len(images)) % 10

    def run() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images).flatten(1), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss.detach()

    return run


def evaluation(network: nn.Module, images: Tensor) -> Run:
    """Return a call that computes the output in evaluation mode."""
    network.eval()

    def run() -> Tensor:
        with torch.no_grad():
            output: Tensor = network(images)
        return output

    return run


def race_training(
    forms: TwoForms, images: Images, rounds: Rounds, *, channels_last: bool = False
) -> Measured:
    """Time training steps of both forms; ours may have its channels last."""
    batch, own_batch = _batches(forms, images, channels_last)
    reference = training_step(forms.reference, batch)
    return times_as_fast(reference, training_step(forms.ours, own_batch), rounds)


def race_evaluation(
    forms: TwoForms, images: Images, rounds: Rounds, *, channels_last: bool = False
) -> Measured:
    """Time forward passes of both forms; ours may have its channels last."""
    batch, own_batch = _batches(forms, images, channels_last)
    reference = evaluation(forms.reference, batch)
    return times_as_fast(reference, evaluation(forms.ours, own_batch), rounds)


def _batches(forms: TwoForms, images: Images, channels_last: bool) -> tuple[Tensor, Tensor]:
    batch = images.draw()
    if not channels_last:
        return batch, batch
    put_channels_last(forms.ours)
    return batch, batch.contiguous(memory_format=torch.channels_last)
