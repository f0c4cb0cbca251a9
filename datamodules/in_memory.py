"""Data sets that fit in memory: whole sets as uint8 tensors, converted a batch at a time.

There are no worker processes and nothing is done image by image. The order of an epoch follows from
the seed and the epoch alone, and where in it training stands is asked of the Trainer, so training
that is resumed in the middle of an epoch sees the batches that uninterrupted training sees.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor]
Position = Callable[[], tuple[int, int]]


class LabelledImages(NamedTuple):
    """Images and their classes.

    Attributes:
        images: Pixels, uint8 (N, C, H, W).
        targets: Class numbers, int64 (N,).
    """

    images: Tensor
    targets: Tensor


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


def start_of_first_epoch() -> tuple[int, int]:
    """Position of a loader that no training moves: epoch 0, batch 0."""
    return 0, 0


class InMemoryLoader:
    """Batches `(images, targets, indices)` of rows of a data set in memory, for one device.

    Images are float32 (B, C, H, W), scaled to 0-1 and then normalised if `mean` and `std` are
    given; targets int64 (B,); indices int64 (B,) are the images' rows in the data set. With
    `shuffle` it serves training: all devices get equally many images, the first ones of an epoch
    again where the division leaves a rest. Without, it serves evaluation: stored order, every image
    on exactly one device. All devices get equally many batches in both cases, because those that
    share a model's parameters (FSDP) wait for each other at every batch.

    Args:
        data: The whole data set.
        rows: Rows that are served.
        batch_size: Images in a batch. Of several evaluating devices, one that has an image more
            than the others takes it into its last batch.
        shuffle: Order of the epochs; None for the stored order.
        drop_last: Leave out the images that do not fill a batch on every device (training only).
        rank: Number of this device, from 0.
        world_size: Number of devices.
        position: Tells the epoch and the number of batches of it that are already done. Asked when
            the first batch is wanted: Lightning makes iterators before it knows the epoch.
        mean: Mean of every channel, pixels from 0 to 1.
        std: Standard deviation of every channel, pixels from 0 to 1.

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
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        self.data = data
        self.rows = torch.arange(rows.start, rows.stop)
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.position = position
        self._normalise = None if mean is None or std is None else (_plane(mean), _plane(std))
        per_device = len(rows) // world_size
        if shuffle and drop_last:
            per_device -= per_device % batch_size
        elif shuffle:
            per_device = -(-len(rows) // world_size)
        if per_device == 0:
            dropped = f" with drop_last and batch_size={batch_size}" if drop_last else ""
            raise ValueError(f"{len(rows)} images give {world_size} device(s) no batch{dropped}")
        self._per_device = per_device
        starts = range(0, per_device, batch_size)
        self._slices = [slice(*ends) for ends in zip(starts, [*starts[1:], None], strict=True)]

    def __len__(self) -> int:
        """Batches of an epoch on this device."""
        return len(self._slices)

    def __iter__(self) -> Iterator[Batch]:
        # A generator: nothing runs before the first batch is asked for.
        epoch, done = self.position()
        share = self._share(epoch)
        for part in self._slices[done:]:
            yield self._batch(share[part])

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the position is the Trainer's, which its checkpoints hold.

        Lightning takes loaders without this method for ones that cannot be resumed.
        """
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load nothing, see `state_dict`."""

    def _share(self, epoch: int) -> Tensor:
        if self.shuffle is None:
            return self.rows[self.rank :: self.world_size]
        order = self.rows[self.shuffle.order(len(self.rows), epoch)]
        total = self._per_device * self.world_size
        return order.repeat(-(-total // len(order)))[self.rank : total : self.world_size]

    def _batch(self, rows: Tensor) -> Batch:
        images = self.data.images.index_select(0, rows).div(255)
        if self._normalise is not None:
            mean, std = self._normalise
            images.sub_(mean).div_(std)
        return images, self.data.targets.index_select(0, rows), rows


class InMemoryDataModule(LightningDataModule, ABC):
    """Base of data modules that keep their data set in memory; a subclass says how to `read` it.

    Args:
        batch_size: Training images in a batch, on each device.
        eval_batch_size: Images in a batch of validation, test and prediction; None for batch_size.
        holdout: Number of last training images that are never trained on, but validated on.
        evaluate_on: Images that `test` reports: "test", or "holdout", and then nothing is left to
            validate on, because no model may be selected on the images that are reported.
        shuffle_buffer: Images in a shuffle buffer as TensorFlow has it; None shuffles completely.
        drop_last: Leave out the last training batch of an epoch if it is not full.
        seed: Seed of the training order; None for the run's seed (seed_everything), else 0.
        mean: Mean of every channel of pixels from 0 to 1, subtracted; None to normalise nothing.
        std: Standard deviation of every channel, divided by; given if and only if mean is.

    Attributes:
        name: Name of the data set.
        num_classes: Number of classes.
        input_size: Channels, height and width of an image.

    Raises:
        ValueError: An option has a value that makes no sense.
    """

    name: str
    num_classes: int
    input_size: tuple[int, int, int]

    def __init__(
        self,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        holdout: int = 0,
        evaluate_on: Literal["test", "holdout"] = "test",
        shuffle_buffer: int | None = None,
        drop_last: bool = False,
        seed: int | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        _at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        _at_least(1, shuffle_buffer=shuffle_buffer)
        _at_least(0, holdout=holdout, seed=seed)
        if evaluate_on not in ("test", "holdout"):
            raise ValueError(f"evaluate_on={evaluate_on!r} must be 'test' or 'holdout'")
        if evaluate_on == "holdout" and holdout == 0:
            raise ValueError("evaluate_on='holdout' needs images to report: holdout=0 keeps none")
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.holdout = holdout
        self.evaluate_on = evaluate_on
        self.shuffle_buffer = shuffle_buffer
        self.drop_last = drop_last
        self.seed = seed
        self.mean = mean
        self.std = std
        self._sets: tuple[LabelledImages, LabelledImages] | None = None
        self._check_normalisation()

    @abstractmethod
    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the training set and the test set."""

    @property
    def in_chans(self) -> int:
        """Number of channels of an image."""
        return self.input_size[0]

    @property
    def num_train(self) -> int:
        """Number of images that are trained on."""
        return len(self.sets()[0].targets) - self.holdout

    @property
    def num_val(self) -> int:
        """Number of images that are validated on."""
        return self.holdout if self.evaluate_on == "test" else 0

    @property
    def num_test(self) -> int:
        """Number of images that `test` reports."""
        return len(self.sets()[1].targets) if self.evaluate_on == "test" else self.holdout

    def setup(self, stage: str | None = None) -> None:
        """Read the data set if it was not read yet."""
        self.sets()

    def sets(self) -> tuple[LabelledImages, LabelledImages]:
        """Training set with the holdout, and test set; read at the first call.

        Raises:
            ValueError: `holdout` leaves nothing to train on.
        """
        if self._sets is None:
            train, test = self.read()
            count = len(train.targets)
            if self.holdout >= count:
                raise ValueError(
                    f"holdout={self.holdout} leaves nothing to train on of the {count} training "
                    f"images of {self.name}"
                )
            self._sets = train, test
        return self._sets

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What was read: the name, SHA-256 of all pixels and classes, and how many serve what."""
        digest = hashlib.sha256()
        for images, targets in self.sets():
            for tensor in (images, targets):
                digest.update(repr(tuple(tensor.shape)).encode())
                digest.update(tensor.contiguous().numpy().data)
        counts = {"train": self.num_train, "val": self.num_val, "test": self.num_test}
        return {"name": self.name, "sha256": digest.hexdigest(), **counts}

    def train_dataloader(self) -> InMemoryLoader:
        """Shuffled batches of the training images, without the holdout."""
        train, _ = self.sets()
        return self._loader(
            train,
            range(self.num_train),
            self.batch_size,
            shuffle=Shuffle(self._seed_of_run(), self.shuffle_buffer),
            drop_last=self.drop_last,
            position=self._position,
        )

    def val_dataloader(self) -> InMemoryLoader | list[InMemoryLoader]:
        """Batches of the holdout; no loader if there is none or if `test` reports it.

        Raises:
            ValueError: The Trainer was asked to validate and there is nothing to validate on.
        """
        if self.num_val:
            return self._holdout_loader()
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING:
            raise ValueError(
                f"nothing to validate on with holdout={self.holdout} and "
                f"evaluate_on={self.evaluate_on!r}; use test, or keep a holdout that test does not "
                f"report"
            )
        return []

    def test_dataloader(self) -> InMemoryLoader:
        """Batches of the images that are reported."""
        if self.evaluate_on == "holdout":
            return self._holdout_loader()
        _, test = self.sets()
        return self._loader(test, range(len(test.targets)), self.eval_batch_size)

    def predict_dataloader(self) -> InMemoryLoader:
        """Batches of the images that are reported."""
        return self.test_dataloader()

    def _holdout_loader(self) -> InMemoryLoader:
        train, _ = self.sets()
        rows = range(self.num_train, len(train.targets))
        return self._loader(train, rows, self.eval_batch_size)

    def _loader(
        self, data: LabelledImages, rows: range, batch_size: int, **options: Any
    ) -> InMemoryLoader:
        if self.trainer is not None:
            options |= {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}
        return InMemoryLoader(data, rows, batch_size, mean=self.mean, std=self.std, **options)

    def _position(self) -> tuple[int, int]:
        if self.trainer is None:
            return start_of_first_epoch()
        # Not epoch_progress.current.processed: Lightning counts an epoch twice there when training
        # that is counted in steps resumes from a checkpoint of an epoch's end.
        epoch = self.trainer.current_epoch
        if getattr(self.trainer, "overfit_batches", 0):
            epoch = 0  # to overfit is to see the same batches in every epoch
        return epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _seed_of_run(self) -> int:
        return int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed

    def _check_normalisation(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"mean={self.mean} and std={self.std} must be given together")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) != self.in_chans:
                raise ValueError(
                    f"{name}={values} must have one number for each of {self.in_chans} channel(s)"
                )
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std={self.std} must be positive")


def _plane(values: list[float]) -> Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def _at_least(least: int, **options: int | None) -> None:
    for name, value in options.items():
        if value is not None and value < least:
            raise ValueError(f"{name}={value} must be at least {least}")
