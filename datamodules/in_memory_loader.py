"""Loader of a data set in memory: whole sets as uint8 tensors, converted a batch at a time.

There are no worker processes and nothing is done image by image. The order of an epoch follows from
the seed and the epoch alone, and where in it training stands is asked of the Trainer, so training
that is resumed in the middle of an epoch sees the batches that uninterrupted training sees.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.augmentation import Augmentation, AugmentedImages, EpochDraws
from datamodules.position import Position, start_of_first_epoch
from datamodules.sampling import BatchPlan, Shuffle

Batch = tuple[Tensor, Tensor, Tensor]


class LabelledImages(NamedTuple):
    """Images and their classes.

    Attributes:
        images: Pixels, uint8 (N, C, H, W).
        targets: Class numbers, int64 (N,).
    """

    images: Tensor
    targets: Tensor


class InMemoryLoader:
    """Batches `(images, targets, indices)` of rows of a data set in memory, for one device.

    Images are float32 (B, C, H, W), scaled to 0-1 and then normalised if `mean` and `std` are
    given; targets int64 (B,); indices int64 (B,) are the images' rows in the data set. Which images
    make a batch on which device, `BatchPlan` says.

    Args:
        data: The whole data set.
        rows: Rows that are served.
        batch_size: Images in a batch.
        shuffle: Order of the epochs (training); None for the stored order (evaluation).
        drop_last: Leave out the images that do not fill a batch on every device (training only).
        rank: Number of this device, from 0.
        world_size: Number of devices.
        position: Tells the epoch and the number of batches of it that are already done. Asked when
            the first batch is wanted: Lightning makes iterators before it knows the epoch.
        mean: Mean of every channel, pixels from 0 to 1.
        std: Standard deviation of every channel, pixels from 0 to 1.
        augmentation: What is done to the images; None for nothing.

    Raises:
        ValueError: A device would get no batch.
    """

    def __init__(
        self,
        data: LabelledImages,
        rows: range,
        batch_size: int,
        *,
        shuffle: Shuffle | None = None,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        position: Position = start_of_first_epoch,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.data = data
        self.position = position
        self.plan = BatchPlan(
            torch.arange(rows.start, rows.stop),
            batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            rank=rank,
            world_size=world_size,
        )
        self._normalise = None if mean is None or std is None else (_plane(mean), _plane(std))
        self._augmented: AugmentedImages | None = None
        if augmentation:
            self._augmented = AugmentedImages(data.images[: rows.stop], augmentation, mean)

    def __len__(self) -> int:
        """Batches of an epoch on this device."""
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is asked for.
        epoch, done = self.position()
        draws = self._augmented.draw(epoch) if self._augmented else None
        for rows, _ in self.plan.batches(epoch, done):
            yield self._images(rows, draws), self.data.targets.index_select(0, rows), rows

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the Trainer's, which its checkpoints hold.

        Lightning takes loaders without this method for ones that cannot be resumed.
        """
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing, see `state_dict`."""

    def _images(self, rows: Tensor, draws: EpochDraws | None) -> Tensor:
        if self._augmented is None or draws is None:
            return self._normalised(self.data.images.index_select(0, rows))
        images = self._normalised(self._augmented.pixels(draws, rows))
        return self._augmented.cut_out_(images, draws, rows)

    def _normalised(self, pixels: Tensor) -> Tensor:
        images = pixels.div(255)
        if self._normalise is not None:
            mean, std = self._normalise
            images.sub_(mean).div_(std)
        return images


def _plane(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)
