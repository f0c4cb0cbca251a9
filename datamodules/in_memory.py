"""Data sets that fit in memory: the options, splits and loaders that they share."""

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Literal

from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.augmentation import Augmentation, PaddingMode
from datamodules.in_memory_loader import InMemoryLoader, LabelledImages
from datamodules.options import at_least, check_normalisation, one_of
from datamodules.position import position_in_training, seed_of_run, share_of_device
from datamodules.sampling import Shuffle


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
        crop_padding: Pixels that training images are padded by on each side before a window of
            their own size is cut out at a random place; 0 for no random crop.
        padding_mode: What the padding holds: "zeros" is black, "reflect" mirrors the image, "mean"
            is the colour `mean`.
        flip: Mirror training images left and right with probability 1/2.
        cutout: Side in pixels of a square around a random pixel of each training image, cut off at
            the border, that is set to 0 after normalisation; 0 for none.

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
        crop_padding: int = 0,
        padding_mode: PaddingMode = "zeros",
        flip: bool = False,
        cutout: int = 0,
    ) -> None:
        super().__init__()
        at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        at_least(1, shuffle_buffer=shuffle_buffer)
        at_least(0, holdout=holdout, seed=seed, crop_padding=crop_padding, cutout=cutout)
        one_of(("test", "holdout"), evaluate_on=evaluate_on)
        one_of(("zeros", "reflect", "mean"), padding_mode=padding_mode)
        check_normalisation(mean, std, self.in_chans)
        if evaluate_on == "holdout" and holdout == 0:
            raise ValueError("evaluate_on='holdout' needs images to report: holdout=0 keeps none")
        if padding_mode == "reflect" and crop_padding >= min(self.input_size[1:]):
            raise ValueError(
                f"crop_padding={crop_padding} must be less than the side of the image, "
                f"{min(self.input_size[1:])}, to be filled with reflected pixels"
            )
        if padding_mode == "mean" and mean is None:
            raise ValueError("padding_mode='mean' needs the colour: give mean and std")
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.holdout = holdout
        self.evaluate_on = evaluate_on
        self.shuffle_buffer = shuffle_buffer
        self.drop_last = drop_last
        self.seed = seed
        self.mean = mean
        self.std = std
        self.crop_padding = crop_padding
        self.padding_mode: PaddingMode = padding_mode
        self.flip = flip
        self.cutout = cutout
        self._sets: tuple[LabelledImages, LabelledImages] | None = None

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
        """Shuffled, augmented batches of the training images, without the holdout."""
        train, _ = self.sets()
        seed = seed_of_run(self.seed)
        return self._loader(
            train,
            range(self.num_train),
            self.batch_size,
            shuffle=Shuffle(seed, self.shuffle_buffer),
            drop_last=self.drop_last,
            position=lambda: position_in_training(self.trainer),
            augmentation=Augmentation(
                seed, self.crop_padding, self.padding_mode, self.flip, self.cutout
            ),
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
        options |= share_of_device(self.trainer)
        return InMemoryLoader(data, rows, batch_size, mean=self.mean, std=self.std, **options)
