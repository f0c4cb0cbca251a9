"""COCO 2017: images with the objects in them, for detection and instance segmentation."""

import hashlib
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.broken_images import refuse_to_evaluate
from datamodules.coco_annotations import decode_mask
from datamodules.coco_images import CocoBatches, CocoImages
from datamodules.coco_transforms import DetectionTransform
from datamodules.file_data import HOLDOUT_SEED, FileDataModule
from datamodules.image_files import fingerprint
from datamodules.image_loader import ImageLoader
from datamodules.official import data_root
from datamodules.options import at_least
from datamodules.position import position_in_training, seed_of_run, share_of_device
from datamodules.sampling import BatchPlan, GroupedShuffle, Shuffle


class COCODataModule(FileDataModule):
    """COCO 2017 in its official layout: images and `annotations/instances_{train,val}2017.json`.

    Batches are `(images, targets, indices)` as `lit_models.Detector` takes them. `test` reports all
    images of val2017, in their own sizes. Nothing is validated on by default: keep a `holdout` of
    the training images, or say `validate_on_test`.

    Args:
        root: Folder with annotations, train2017 and val2017, or with a folder coco that has them;
            None for the environment variable CONVSUITE_DATA, else data.
        batch_size: Training images in a batch, on each device.
        eval_batch_size: Images in a batch of validation, test and prediction. Above 1 they are
            padded to one size, which changes the results a little.
        masks: Whether the targets have masks.
        sizes: Shorter sides that training images are resized to, one drawn for each.
        max_size: Longer side that they do not exceed.
        flip: Probability of a horizontal flip.
        crop: Probability of a crop of 384 to 600 pixels a side, out of the image at 400, 500 or 600
            pixels, before it is resized.
        empty_images: Train on images without objects, too.
        group_by_orientation: Batches of upright or of lying images, which need less padding.
        holdout: Number of training images that are never trained on, but validated on.
        validate_on_test: Validate on val2017, which `test` reports, as the papers do; the best of
            all epochs is then no honest result.
        test_on_train: Report the images of train2017 in place of val2017: whether a detector learns
            at all, not how good it is.
        drop_last: Leave out the last training batch of an epoch if it is not full.
        seed: Seed of order and augmentation; None for the run's seed (seed_everything), else 0.
        num_workers: Worker processes of each loader; None for the cores of this machine, shared out
            to its devices, 16 at most.
        prefetch_factor: Batches that each worker has ready.
        pin_memory: Copy batches to page-locked memory where there is a GPU.
        persistent_workers: Keep the workers from epoch to epoch.

    Attributes:
        num_classes: Number of categories, 80 in COCO.

    Raises:
        FileNotFoundError: There is no COCO.
        ValueError: An option has a value that makes no sense, or annotations are unreadable.
    """

    name = "COCO 2017"
    in_chans = 3  # greyscale images become RGB

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 2,
        eval_batch_size: int = 1,
        masks: bool = True,
        sizes: Sequence[int] = (800,),
        max_size: int = 1333,
        flip: float = 0.5,
        crop: float = 0.0,
        empty_images: bool = False,
        group_by_orientation: bool = False,
        holdout: int = 0,
        validate_on_test: bool = False,
        test_on_train: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
        num_workers: int | None = None,
        prefetch_factor: int = 2,
        pin_memory: bool = True,
        persistent_workers: bool = True,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            holdout=holdout,
            validate_on_test=validate_on_test,
            drop_last=drop_last,
            seed=seed,
            num_workers=num_workers,
            prefetch_factor=prefetch_factor,
            pin_memory=pin_memory,
            persistent_workers=persistent_workers,
        )
        at_least(1, max_size=max_size, sizes=min(sizes, default=0))
        at_least(0, flip=flip, crop=crop)
        self.root = _root(root)
        self.masks = masks
        self.transform = DetectionTransform(tuple(sizes), max_size, flip, crop)
        self.empty_images = empty_images
        self.group_by_orientation = group_by_orientation
        self.test_on_train = test_on_train

    @property
    def num_classes(self) -> int:
        """Number of categories; COCO's 80 where there are no annotations yet."""
        # A model may be on its way to the meta device; what is read here is kept and used.
        try:
            with torch.device("cpu"):
                return len(self.test_images.classes)
        except FileNotFoundError:
            return 80

    @property
    def classes(self) -> list[str]:
        """Names of the categories, in the order of their labels from 1."""
        return self.test_images.classes

    @property
    def category_ids(self) -> list[int]:
        """COCO's number of the category of each label, from label 1."""
        return self.test_images.annotations.category_ids

    @cached_property
    def train_images(self) -> CocoImages:
        """All images of train2017, the holdout among them."""
        return CocoImages(self.root, "train")

    @cached_property
    def test_images(self) -> CocoImages:
        """The images that `test` reports."""
        return self.train_images if self.test_on_train else CocoImages(self.root, "val")

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What the data are: SHA-256 of names, sizes and annotations, and how many serve what."""
        train, test = self.train_images, self.test_images
        known = fingerprint(self.name, train, test, self.holdout, self.validate_on_test)
        digest = hashlib.sha256(known["sha256"].encode())
        for images in (train, test):
            digest.update(images.annotations.file.read_bytes())
        return {**known, "sha256": digest.hexdigest(), "train": self.num_train}

    def setup(self, stage: str | None = None) -> None:
        """Read the annotations; those of train2017 are not needed by `test` and `predict`.

        Raises:
            FileNotFoundError: There are no annotations, or no images.
            ValueError: The annotations are unreadable or contradict themselves, the categories of
                both splits differ, or the holdout is too large.
            ModuleNotFoundError: Masks need faster-coco-eval, which is not installed.
        """
        splits = [self.test_images]
        if stage in (None, "fit") or (stage == "validate" and self.holdout):
            splits.append(self.train_images)
            _ = self.rows
        for images in splits:
            if not os.path.isfile(images.path(0)):
                raise FileNotFoundError(f"no image at {images.path(0)}; unpack COCO's images there")
        first, last = splits[0].annotations, splits[-1].annotations
        if (first.category_ids, first.classes) != (last.category_ids, last.classes):
            raise ValueError(f"{first.file} and {last.file} have different categories")
        if self.masks:
            decode_mask({"size": [1, 1], "counts": [1]}, 1, 1)

    def train_dataloader(self) -> ImageLoader:
        """Shuffled, augmented batches of the training images, without the holdout."""
        rows, _ = self.rows
        seed, share = seed_of_run(self.seed), share_of_device(self.trainer)
        shuffle = Shuffle(seed)
        if self.group_by_orientation:
            height, width = self.train_images.annotations.sizes[rows].unbind(1)
            lot = self.batch_size * share.get("world_size", 1)
            shuffle = GroupedShuffle(seed=seed, groups=(width > height).long(), lot=lot)
        plan = BatchPlan(rows, self.batch_size, shuffle=shuffle, drop_last=self.drop_last, **share)
        return self.loader(
            CocoBatches(self.train_images, self.transform, self.masks, seed),
            plan,
            # Every image of COCO can be read, so one that cannot is a fault of the copy.
            on_broken=refuse_to_evaluate,
            position=lambda: position_in_training(self.trainer),
        )

    @cached_property
    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of train2017 that are trained on, and those that are held out."""
        known = self.train_images.annotations
        usable = torch.arange(len(known)) if self.empty_images else known.counts.nonzero()[:, 0]
        if self.holdout >= len(usable):
            raise ValueError(
                f"holdout={self.holdout} leaves nothing to train on of the {len(usable)} images "
                f"with objects that {known.file} has"
            )
        order = usable[Shuffle(HOLDOUT_SEED).order(len(usable), 0)]
        trained, held_out = order[self.holdout :], order[: self.holdout]
        return trained.sort().values, held_out.sort().values

    def evaluated(self, images: CocoImages) -> CocoBatches:
        """Return what makes batches for evaluation of images of train2017 or val2017."""
        return CocoBatches(images, None, self.masks)


def _root(root: str | None) -> Path:
    folder = data_root(root)
    below = folder / "coco"
    return below if (below / "annotations").is_dir() else folder
