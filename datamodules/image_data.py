"""Data sets of image files: the options, splits and loaders that they share."""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from datamodules.broken_images import BrokenImages, OnBrokenImage
from datamodules.file_data import HOLDOUT_SEED, FileDataModule
from datamodules.image_decoding import Decoder
from datamodules.image_files import ImageFiles, fingerprint
from datamodules.image_loader import ImageBatches, ImageLoader
from datamodules.image_splits import class_names, open_split, root_of_splits, stratified_rows
from datamodules.image_transforms import EvalTransform, TrainTransform
from datamodules.official import data_root
from datamodules.options import at_least, one_of
from datamodules.position import position_in_training, seed_of_run, share_of_device
from datamodules.sampling import BatchPlan, Shuffle

CLASSES_OF_IMAGENET = 1000


class ImageFilesDataModule(FileDataModule):
    """Base of data modules with images in class folders; a subclass says what is done to them.

    `test` reports all images of val. Nothing is validated on by default, because no model may be
    selected on the images that are reported: keep a `holdout` of the training images, or say
    `validate_on_test`.

    Args:
        root: Folder with train and val, or with a folder imagenet that has them; None for the
            environment variable CONVSUITE_DATA, else data.
        num_classes: Number of classes; None to count the class folders, 1000 where there are none.
        batch_size: Training images in a batch, on each device.
        eval_batch_size: Images in a batch of validation, test and prediction; None for batch_size.
        holdout: Number of training images that are never trained on, but validated on: the same
            ones in every run, of all classes alike.
        fewer_classes_in_val: Let val lack classes of train, which then numbers them: ImageNet-5K is
            tested on the 1000 classes of ImageNet. Accuracies among these alone are then reported
            too, as `acc1_restricted` and `acc5_restricted`.
        validate_on_test: Validate on the images of val, which `test` reports. The published recipes
            do; the best of all epochs is then no honest result.
        drop_last: Leave out the last training batch of an epoch if it is not full.
        repeats: Versions of a training image in an epoch (DeiT's repeated augmentation); above 1 an
            epoch has 1/repeats of the images.
        seed: Seed of order and augmentation; None for the run's seed (seed_everything), else 0.
        decode: "pil", as the published recipes do it, or "fast": torchvision's decoder and
            transforms of tensors, which have no auto_augment.
        on_broken_image: Whether a training image that cannot be read ends the run, or is skipped
            and recorded. Evaluation counts every image, so there it always ends the run.
        num_workers: Worker processes of each loader; None for the cores of this machine, shared out
            to its devices, 16 at most.
        prefetch_factor: Batches that each worker has ready.
        pin_memory: Copy batches to page-locked memory where there is a GPU.
        persistent_workers: Keep the workers from epoch to epoch.

    Attributes:
        name: Name of the data set.
        num_classes: Number of classes.
        input_size: Channels, height and width of a training image.
        train_transform: What is done to training images.
        eval_transform: What is done to evaluated images.

    Raises:
        ValueError: An option has a value that makes no sense.
    """

    name: str
    input_size: tuple[int, int, int]
    train_transform: TrainTransform
    eval_transform: EvalTransform

    def __init__(
        self,
        root: str | None = None,
        num_classes: int | None = None,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        holdout: int = 0,
        fewer_classes_in_val: bool = False,
        validate_on_test: bool = False,
        drop_last: bool = False,
        repeats: int = 1,
        seed: int | None = None,
        decode: Decoder = "pil",
        on_broken_image: OnBrokenImage = "raise",
        num_workers: int | None = None,
        prefetch_factor: int = 2,
        pin_memory: bool = True,
        persistent_workers: bool = True,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=batch_size if eval_batch_size is None else eval_batch_size,
            holdout=holdout,
            validate_on_test=validate_on_test,
            drop_last=drop_last,
            seed=seed,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            pin_memory=pin_memory,
            persistent_workers=persistent_workers,
        )
        at_least(1, num_classes=num_classes, repeats=repeats)
        one_of(("pil", "fast"), decode=decode)
        one_of(("raise", "skip"), on_broken_image=on_broken_image)
        self.root = root_of_splits(data_root(root))
        self.fewer_classes_in_val = fewer_classes_in_val
        self.repeats = repeats
        self.decode: Decoder = decode
        self._broken = BrokenImages(on_broken_image)
        found = len(class_names(self.root / "train") or class_names(self.root / "val"))
        self.num_classes = num_classes or found or CLASSES_OF_IMAGENET

    @property
    def in_chans(self) -> int:
        """Number of channels of an image."""
        return self.input_size[0]

    @property
    def broken_images(self) -> list[str]:
        """Paths of the images that this process found broken and skipped."""
        return self._broken.paths

    @cached_property
    def train_images(self) -> ImageFiles:
        """All images of train, the holdout among them."""
        return self._open("train")

    @cached_property
    def test_images(self) -> ImageFiles:
        """All images of val."""
        return self._open("val")

    @property
    def test_classes(self) -> Tensor | None:
        """Numbers of the classes that val has, int64; None for all of them."""
        return torch.unique(self.test_images.targets) if self.fewer_classes_in_val else None

    @property
    def classes(self) -> list[str]:
        """Names of the classes, which are those of their folders."""
        return self.test_images.classes

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What is in the folders: SHA-256 of all names and file sizes, and how many serve what."""
        return fingerprint(
            self.name, self.train_images, self.test_images, self.holdout, self.validate_on_test
        )

    def setup(self, stage: str | None = None) -> None:
        """List the images; those of train are not needed by `test` and `predict`.

        Raises:
            FileNotFoundError: There are no images, or not in class folders.
            ValueError: The classes are not those that were expected, or the holdout is too large.
        """
        if stage in (None, "fit") or (stage == "validate" and self.holdout):
            _ = self.rows
        _ = self.test_images

    def train_dataloader(self) -> ImageLoader:
        """Shuffled, augmented batches of the training images, without the holdout."""
        rows, _ = self.rows
        seed = seed_of_run(self.seed)
        plan = BatchPlan(
            rows,
            self.batch_size,
            shuffle=Shuffle(seed),
            drop_last=self.drop_last,
            repeats=self.repeats,
            **share_of_device(self.trainer),
        )
        transform = self.train_transform.build(self.decode)
        batches = ImageBatches(self.train_images, self.decode, transform, seed)
        return self.loader(
            batches,
            plan,
            on_broken=self._broken.found,
            position=lambda: position_in_training(self.trainer),
        )

    def state_dict(self) -> dict[str, Any]:
        """The broken images that were found, so that a resumed run knows them."""
        return {"broken_images": self.broken_images} if self.broken_images else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the broken images that were found before."""
        self._broken.paths = list(state_dict["broken_images"])

    def run_facts(self) -> dict[str, Any]:
        """Broken images that were skipped on any device, for the run's record.

        All devices must call it, because they tell each other.
        """
        return self._broken.facts()

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of train that are trained on, and those that are held out."""
        count = len(self.train_images)
        if self.holdout >= count:
            raise ValueError(
                f"holdout={self.holdout} leaves nothing to train on of the {count} images in "
                f"{self.train_images.folder}"
            )
        return stratified_rows(self.train_images.targets, self.holdout, HOLDOUT_SEED)

    def evaluated(self, images: ImageFiles) -> ImageBatches:
        """Return what makes batches for evaluation of images of train or val."""
        return ImageBatches(images, self.decode, self.eval_transform.build(self.decode))

    def _open(self, split: str) -> ImageFiles:
        fewer = self.fewer_classes_in_val
        return open_split(self.root, split, self.num_classes, fewer_in_val=fewer)
