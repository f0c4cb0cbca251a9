"""Data sets whose images are files, read by worker processes: what is done with their splits."""

from abc import ABC, abstractmethod
from collections.abc import Sized
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from datamodules.broken_images import refuse_to_evaluate
from datamodules.image_loader import ImageBatches, ImageLoader, share_of_cores, worker_options
from datamodules.options import at_least
from datamodules.position import share_of_device
from datamodules.sampling import BatchPlan

# The held-out images are the same in all runs, or runs with different seeds could not be compared.
HOLDOUT_SEED = 0


class FileDataModule(LightningDataModule, ABC):
    """Base of data modules that read image files; a subclass finds and prepares them.

    `test` reports all test images. Nothing is validated on by default, because no model may be
    selected on the images that are reported: keep a `holdout` of the training images, or say
    `validate_on_test`.

    Args:
        batch_size: Training images in a batch, on each device.
        eval_batch_size: Images in a batch of validation, test and prediction.
        holdout: Number of training images that are never trained on, but validated on.
        validate_on_test: Validate on the images that `test` reports.
        drop_last: Leave out the last training batch of an epoch if it is not full.
        seed: Seed of order and augmentation; None for the run's seed (seed_everything), else 0.
        num_workers: Worker processes of each loader; None for the cores of this machine, shared out
            to its devices, 16 at most.
        prefetch_factor: Batches that each worker has ready.
        pin_memory: Copy batches to page-locked memory where there is a GPU.
        persistent_workers: Keep the workers from epoch to epoch.

    Raises:
        ValueError: An option has a value that makes no sense.
    """

    def __init__(
        self,
        *,
        batch_size: int,
        eval_batch_size: int,
        holdout: int,
        validate_on_test: bool,
        drop_last: bool,
        seed: int | None,
        num_workers: int | None,
        prefetch_factor: int,
        pin_memory: bool,
        persistent_workers: bool,
    ) -> None:
        super().__init__()
        at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        at_least(1, prefetch_factor=prefetch_factor)
        at_least(0, holdout=holdout, seed=seed, num_workers=num_workers)
        if holdout and validate_on_test:
            raise ValueError(
                f"holdout={holdout} and validate_on_test=true are two validation sets; choose one"
            )
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.holdout = holdout
        self.validate_on_test = validate_on_test
        self.drop_last = drop_last
        self.seed = seed
        self.num_workers = num_workers
        self.prefetch_factor = prefetch_factor
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers
        self._open_loaders: list[ImageLoader] = []

    @property
    @abstractmethod
    def train_images(self) -> Sized:
        """All training images, the holdout among them."""

    @property
    @abstractmethod
    def test_images(self) -> Sized:
        """The images that `test` reports."""

    @property
    @abstractmethod
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of the training images that are trained on, and those that are held out."""

    @abstractmethod
    def evaluated(self, images: Any) -> ImageBatches:
        """Return what makes batches for evaluation of training or test images."""

    @property
    def num_train(self) -> int:
        """Number of images that are trained on."""
        return len(self.rows[0])

    @property
    def num_val(self) -> int:
        """Number of images that are validated on."""
        return self.num_test if self.validate_on_test else self.holdout

    @property
    def num_test(self) -> int:
        """Number of images that `test` reports."""
        return len(self.test_images)

    def val_dataloader(self) -> ImageLoader | list[ImageLoader]:
        """Batches of the holdout, or of the test images with `validate_on_test`; else no loader.

        Raises:
            ValueError: The Trainer was asked to validate and there is nothing to validate on.
        """
        if self.validate_on_test:
            return self.test_dataloader()
        if self.holdout:
            return self._eval_loader(self.train_images, self.rows[1])
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING:
            raise ValueError(
                "nothing to validate on with holdout=0 and validate_on_test=false; use test, or "
                "choose one of them"
            )
        return []

    def test_dataloader(self) -> ImageLoader:
        """Batches of all images that `test` reports."""
        return self._eval_loader(self.test_images, torch.arange(self.num_test))

    def predict_dataloader(self) -> ImageLoader:
        """Batches of all images that `test` reports."""
        return self.test_dataloader()

    def teardown(self, stage: str | None = None) -> None:
        """End the workers of all loaders."""
        for loader in self._open_loaders:
            loader.close()
        self._open_loaders.clear()

    def on_exception(self, exception: BaseException) -> None:
        """End the workers of all loaders."""
        self.teardown()

    def loader(self, batches: ImageBatches, plan: BatchPlan, **options: Any) -> ImageLoader:
        """Return a loader with this module's workers, which are ended with the others'.

        Args:
            batches: Makes batches of rows.
            plan: Which rows.
            options: Further ones of `ImageLoader`.
        """
        devices = 1 if self.trainer is None else self.trainer.num_devices
        workers = worker_options(
            share_of_cores(devices) if self.num_workers is None else self.num_workers,
            self.prefetch_factor,
            self.pin_memory,
            self.persistent_workers,
        )
        self._open_loaders.append(ImageLoader(batches, plan, **options, **workers))
        return self._open_loaders[-1]

    def _eval_loader(self, images: Sized, rows: Tensor) -> ImageLoader:
        plan = BatchPlan(rows, self.eval_batch_size, **share_of_device(self.trainer))
        return self.loader(self.evaluated(images), plan, on_broken=refuse_to_evaluate)
