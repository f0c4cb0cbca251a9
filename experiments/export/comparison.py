"""Whether an exported network computes what the checkpoint does, and how long both take."""

import time
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from experiments.export.formats import Program
from lit_models.do_conv import OutputDifference

WARM_UP = 3
REPEATS = 15


class Latency(NamedTuple):
    """Median milliseconds for one batch.

    Attributes:
        batch: Images in it.
        checkpoint: The checkpoint's network in torch.
        exported: The exported network.
    """

    batch: int
    checkpoint: float
    exported: float


class Comparison(NamedTuple):
    """How two networks compare on the same images.

    Attributes:
        images: Number of images; each was given to both networks in batches of every size.
        batches: The batch sizes; a last batch may be smaller.
        difference: Largest difference between two logits.
        agreeing: Images that have the same most likely class in batches of every size.
    """

    images: int
    batches: tuple[int, ...]
    difference: OutputDifference
    agreeing: int


@torch.no_grad()
def compare(
    checkpoint: Program,
    exported: Program,
    images: Tensor,
    pixels: Tensor,
    batches: Sequence[int],
) -> Comparison:
    """Compare the outputs of both networks.

    Args:
        checkpoint: The network whose outputs are expected.
        exported: The network that should give the same.
        images: What `checkpoint` gets, `(N, C, H, W)`.
        pixels: What `exported` gets: the images, or the same before they were normalised.
        batches: Sizes of the batches.
    """
    difference = OutputDifference(0.0, 0.0)
    agreeing = torch.ones(len(images), dtype=torch.bool)
    for size in batches:
        pairs = [
            (checkpoint(ours), exported(theirs))
            for ours, theirs in zip(_batches(images, size), _batches(pixels, size), strict=True)
        ]
        for expected, obtained in pairs:
            difference = difference.widened(expected, obtained)
        agreeing &= torch.cat([a.argmax(1) == b.argmax(1) for a, b in pairs])
    return Comparison(len(images), tuple(batches), difference, int(agreeing.sum()))


@torch.no_grad()
def latencies(
    checkpoint: Program, exported: Program, images: Tensor, pixels: Tensor, batches: Sequence[int]
) -> list[Latency]:
    """Time both networks in turn, so that whatever else the machine does meets both."""
    measured = []
    for size in batches:
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in range(WARM_UP + REPEATS):
            for times, network, batch in zip(
                seconds, (checkpoint, exported), (images[:size], pixels[:size]), strict=True
            ):
                started = time.perf_counter()
                network(batch)
                times.append(time.perf_counter() - started)
        ours, theirs = (1000 * median(times[WARM_UP:]) for times in seconds)
        measured.append(Latency(min(size, len(images)), ours, theirs))
    return measured


def _batches(images: Tensor, size: int) -> list[Tensor]:
    return [images[start : start + size] for start in range(0, len(images), size)]
