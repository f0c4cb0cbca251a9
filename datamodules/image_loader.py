"""Loader of image files: decoded, transformed and stacked by worker processes, batch by batch.

What is drawn for an image is a function of seed, epoch, row and, under repeated augmentation, the
repetition alone: results depend neither on the number of workers nor on where training was
interrupted.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from datamodules.image_decoding import (
    BrokenImage,
    Decoder,
    decoder,
    quiet_decoders,
    read_image,
)
from datamodules.image_files import ImageFiles
from datamodules.image_transforms import Transform
from datamodules.position import Position, start_of_first_epoch
from datamodules.sampling import BatchPlan

Batch = tuple[Tensor, Tensor, Tensor]

MOST_WORKERS = 16


class BatchKey(NamedTuple):
    """A batch that a worker is asked for.

    Attributes:
        epoch: Epoch, from 0.
        rows: Rows of the images, int64 (B,).
        copies: Which repetition in the epoch each is, int64 (B,).
    """

    epoch: int
    rows: Tensor
    copies: Tensor


class LoadedBatch(NamedTuple):
    """What a worker answers.

    Attributes:
        images: Readable images, float32 (B, 3, H, W).
        targets: Their classes, int64 (B,).
        rows: Their rows, int64 (B,).
        broken: The others.
    """

    images: Tensor
    targets: Tensor
    rows: Tensor
    broken: list[BrokenImage]


class ImageBatches(Dataset[LoadedBatch]):
    """Batches of images, read when they are asked for.

    Args:
        files: The images.
        decode: What decodes them: "pil", or "fast" for torchvision.
        transform: What is done to each.
        seed: Seed of the random transforms; None if nothing is random.

    Raises:
        ValueError: There is no such decoder in this installation.
    """

    def __init__(
        self, files: ImageFiles, decode: Decoder, transform: Transform, seed: int | None = None
    ) -> None:
        self.files = files
        self.transform = transform
        self.seed = seed
        self._decode = decoder(decode)

    def __getitem__(self, key: BatchKey) -> LoadedBatch:
        """Read one batch."""
        samples, rows, broken = [], [], []
        with _generators_restored(), quiet_decoders():
            for row, copy in zip(key.rows.tolist(), key.copies.tolist(), strict=True):
                image = read_image(self.files, row, self._decode)
                if isinstance(image, BrokenImage):
                    broken.append(image)
                    continue
                if self.seed is not None:
                    _seed_generators((self.seed, key.epoch, row, copy))
                sample = self.sample(image, row)
                if isinstance(sample, BrokenImage):
                    broken.append(sample)
                    continue
                samples.append(sample)
                rows.append(row)
        kept = torch.tensor(rows, dtype=torch.int64)
        return LoadedBatch(*self.together(samples, kept), kept, broken)

    def sample(self, image: Any, row: int) -> Any:
        """Transform a decoded image; may return a `BrokenImage` instead."""
        return self.transform(image)

    def together(self, samples: list[Any], rows: Tensor) -> tuple[Any, Any]:
        """Images and targets of a batch, made of its samples."""
        stacked = default_collate(samples) if samples else torch.empty(0)
        return stacked, self.files.targets[rows]


class ImageLoader:
    """Batches `(images, targets, indices)` of image files, for one device.

    Images are float32 (B, 3, H, W), targets int64 (B,); indices int64 (B,) are the images' rows in
    the split.

    Args:
        batches: Reads a batch.
        plan: Which images make which batch.
        on_broken: Called with every image that could not be read and is left out of its batch; may
            raise.
        position: Tells the epoch and the number of batches of it that are already done. Asked when
            the first batch is wanted: Lightning makes iterators before it knows the epoch.
        **workers: Options of torch's `DataLoader` about its workers.
    """

    def __init__(
        self,
        batches: ImageBatches,
        plan: BatchPlan,
        *,
        on_broken: Callable[[BrokenImage], None],
        position: Position = start_of_first_epoch,
        **workers: Any,
    ) -> None:
        self.plan = plan
        self.on_broken = on_broken
        self._make_loader = partial(
            DataLoader[LoadedBatch],
            batches,
            batch_size=None,
            sampler=_Keys(plan, position),
            collate_fn=_unchanged,
            generator=torch.Generator(),  # or it would draw from the global one at every epoch
            **workers,
        )
        self._loader: DataLoader[LoadedBatch] | None = None

    def __len__(self) -> int:
        """Batches of an epoch on this device."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is asked for.
        if self._loader is None:
            self._loader = self._make_loader()
        for images, targets, rows, broken in self._loader:
            for image in broken:
                self.on_broken(image)
            if not len(rows):
                raise ValueError(
                    f"none of the {len(broken)} images of a batch can be read, {broken[0].path} "
                    f"among them; repair the data set"
                )
            yield images, targets, rows

    def close(self) -> None:
        """End the workers; iterating starts new ones.

        Left to the garbage collector, which finds loaders in a circle with Trainer and data module,
        each worker is waited for in vain for five seconds: its queue is gone before it is told.
        """
        self._loader = None

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the Trainer's, which its checkpoints hold.

        Lightning takes loaders without this method for ones that cannot be resumed.
        """
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing, see `state_dict`."""


def share_of_cores(devices: int) -> int:
    """Workers for one of the `devices` of this machine: its share of the cores, 1 to 16."""
    # Those that this process may use: a job of a cluster has fewer than the machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MOST_WORKERS, max(1, (cores or 1) // devices))


def worker_options(
    count: int, prefetch_factor: int, pin_memory: bool, persistent: bool
) -> dict[str, Any]:
    """Options of `DataLoader` for `count` workers; without any it takes no others."""
    options: dict[str, Any] = {
        "num_workers": count,
        "pin_memory": pin_memory and torch.cuda.is_available(),
    }
    if count:
        options |= {
            "prefetch_factor": prefetch_factor,
            "persistent_workers": persistent,
            "worker_init_fn": _leave_process_group,
        }
    return options


def _leave_process_group(_: int) -> None:
    """A signal to all processes of a run is for those that train; they end their workers."""
    os.setpgid(0, 0)


class _Keys:
    """Keys of the batches that are still to come in the current epoch."""

    def __init__(self, plan: BatchPlan, position: Position) -> None:
        self.plan = plan
        self.position = position

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[BatchKey]:
        epoch, done = self.position()
        for rows, copies in self.plan.batches(epoch, done):
            yield BatchKey(epoch, rows, copies)


def _unchanged(batch: Any) -> Any:
    return batch


@contextmanager
def _generators_restored() -> Iterator[None]:
    # Without workers, the transforms draw from the generators that training draws from.
    python, numpy = random.getstate(), np.random.get_state()
    state = torch.default_generator.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.default_generator.set_state(state)


def _seed_generators(key: tuple[int, ...]) -> None:
    """Seed the three generators that transforms draw from; the accelerator's are left alone."""
    seeds = np.random.SeedSequence(key).generate_state(3)
    random.seed(int(seeds[0]))
    np.random.seed(int(seeds[1]))
    torch.default_generator.manual_seed(int(seeds[2]))
