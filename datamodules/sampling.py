"""Which images make up which batch of which epoch, on which device."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

# DeiT's sampler takes the images of an epoch in lots of 256 and leaves out the rest.
REPEATED_LOT = 256


@dataclass(frozen=True)
class Shuffle:
    """A new order for every epoch, a function of seed and epoch that leaves the global RNG alone.

    Attributes:
        seed: Seed, not negative.
        buffer: Size in images of the buffer that the images pass through in their stored order,
            each leaving it from a random place (TensorFlow's `Dataset.shuffle`); None for a full
            permutation.
    """

    seed: int
    buffer: int | None = None

    def order(self, count: int, epoch: int) -> Tensor:
        """Return the order of `count` images in `epoch` (from 0), int64 (count,)."""
        # Hashed together: with seed + epoch, epoch 1 of one run would be epoch 0 of the next seed.
        state = np.random.SeedSequence((self.seed, epoch)).generate_state(1)
        generator = torch.Generator().manual_seed(int(state[0]))
        if self.buffer is None or self.buffer >= count:
            return torch.randperm(count, generator=generator)
        places = torch.randint(self.buffer, (count - self.buffer,), generator=generator).tolist()
        buffer = list(range(self.buffer))
        order = []
        for entering, place in enumerate(places, start=self.buffer):
            order.append(buffer[place])
            buffer[place] = entering
        rest = torch.tensor(buffer)[torch.randperm(self.buffer, generator=generator)]
        return torch.cat([torch.tensor(order), rest])


@dataclass(frozen=True, kw_only=True)
class GroupedShuffle(Shuffle):
    """The same, with images of one group side by side, so that the batches hold one group each.

    Images that do not fill a batch on all devices come last, the groups mixed.

    Attributes:
        groups: Group of every image, int64 (N,).
        lot: Images of a batch on all devices together.
    """

    groups: Tensor
    lot: int

    def order(self, count: int, epoch: int) -> Tensor:
        """Return the order of `count` images in `epoch` (from 0), int64 (count,)."""
        order = super().order(count, epoch)
        lots: list[Tensor] = []
        rest: list[Tensor] = []
        for group in sorted(set(self.groups.tolist())):
            of_group = order[self.groups[order] == group]
            full = len(of_group) - len(of_group) % self.lot
            lots += [of_group[start : start + self.lot] for start in range(0, full, self.lot)]
            rest.append(of_group[full:])
        # Lots come in the order of their first images, which is a random one.
        place = torch.empty_like(order)
        place[order] = torch.arange(count)
        lots.sort(key=lambda lot: int(place[lot[0]]))
        left = torch.cat(rest)
        return torch.cat([*lots, left[place[left].argsort()]])


class BatchRows(NamedTuple):
    """What one batch holds.

    Attributes:
        rows: Rows of the images in the data set, int64 (B,).
        copies: Which of an image's repetitions in the epoch each is, from 0, int64 (B,).
    """

    rows: Tensor
    copies: Tensor


class BatchPlan:
    """The batches of every epoch, for one device.

    With `shuffle` it serves training: all devices get equally many images, the first ones of an
    epoch again where the division leaves a rest. Without, it serves evaluation: stored order, every
    image on exactly one device. All devices get equally many batches in both cases, because those
    that share a model's parameters (FSDP) wait for each other at every batch.

    Args:
        rows: Rows that are served, int64 (N,).
        batch_size: Images in a batch. Of several evaluating devices, one that has an image more
            than the others takes it into its last batch.
        shuffle: Order of the epochs; None for the stored order.
        drop_last: Leave out the images that do not fill a batch on every device (training only).
        rank: Number of this device, from 0.
        world_size: Number of devices.
        repeats: How often an image comes in an epoch that it comes in at all (training only).
            Above 1 it is DeiT's repeated augmentation: the repetitions lie side by side, so that
            different devices get them, and an epoch keeps its length, so that it has 1/repeats of
            the images.

    Raises:
        ValueError: A device would get no batch.
    """

    def __init__(
        self,
        rows: Tensor,
        batch_size: int,
        *,
        shuffle: Shuffle | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        repeats: int = 1,
    ) -> None:
        self.rows = rows
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.repeats = repeats
        count = len(rows)
        if repeats > 1 and count >= REPEATED_LOT:
            count -= count % REPEATED_LOT
        per_device = count // world_size
        if shuffle and drop_last:
            per_device -= per_device % batch_size
        elif shuffle:
            per_device = -(-count // world_size)
        if per_device == 0:
            dropped = f" with drop_last and batch_size={batch_size}" if drop_last else ""
            raise ValueError(f"{count} images give {world_size} device(s) no batch{dropped}")
        self._per_device = per_device
        starts = range(0, per_device, batch_size)
        self._slices = [slice(*ends) for ends in zip(starts, [*starts[1:], None], strict=True)]

    def __len__(self) -> int:
        """Batches of an epoch on this device."""
        return len(self._slices)

    def batches(self, epoch: int, done: int = 0) -> Iterator[BatchRows]:
        """The batches of `epoch` (from 0) after the first `done`."""
        rows, copies = self._share(epoch)
        for part in self._slices[done:]:
            yield BatchRows(rows[part], copies[part])

    def _share(self, epoch: int) -> BatchRows:
        if self.shuffle is None:
            rows = self.rows[self.rank :: self.world_size]
            return BatchRows(rows, torch.zeros_like(rows))
        order = self.rows[self.shuffle.order(len(self.rows), epoch)]
        places = torch.arange(self.rank, self._per_device * self.world_size, self.world_size)
        return BatchRows(
            order[places.div(self.repeats, rounding_mode="floor") % len(order)],
            places % self.repeats,
        )
