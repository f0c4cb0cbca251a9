"""COCO's images, and batches of them with their objects."""

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.coco_annotations import CocoAnnotations
from datamodules.coco_transforms import DetectionTransform, to_tensor
from datamodules.image_decoding import BrokenImage
from datamodules.image_files import ImageFiles
from datamodules.image_loader import ImageBatches

SPLITS = {"train": "train2017", "val": "val2017"}


class CocoImages(ImageFiles):
    """The images of one split, in the order of COCO's numbers.

    Args:
        root: Folder with annotations, train2017 and val2017.
        split: `train` or `val`.

    Attributes:
        annotations: What is known of the images.

    Raises:
        FileNotFoundError: The annotations are missing.
        ValueError: They are unreadable, or say what cannot be.
    """

    def __init__(self, root: Path, split: str) -> None:
        name = SPLITS[split]
        self.annotations = CocoAnnotations(root / "annotations" / f"instances_{name}.json")
        names = np.array([os.fsencode(name) for name in self.annotations.names], np.bytes_)
        targets = torch.zeros(len(names), dtype=torch.int64)
        super().__init__(root / name, self.annotations.classes, targets, names)

    def name(self, row: int) -> str:
        """Name of an image's file."""
        return self.annotations.names[row]

    def path(self, row: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, self.name(row))

    def size(self, row: int) -> int:
        """Size of an image's file in bytes."""
        return os.stat(self.path(row)).st_size

    def open(self, row: int) -> BinaryIO:
        """Open an image's file for reading."""
        return open(self.path(row), "rb")


class CocoBatches(ImageBatches):
    """Batches of images with their objects, read when they are asked for.

    Args:
        files: The images.
        transform: What is done to training images; None for evaluation, which takes images as they
            are and all their objects, crowds too.
        masks: Whether to make masks.
        seed: Seed of the random transforms.
    """

    files: CocoImages

    def __init__(
        self,
        files: CocoImages,
        transform: DetectionTransform | None,
        masks: bool,
        seed: int | None = None,
    ) -> None:
        super().__init__(files, "pil", to_tensor, seed)
        self.augment = transform
        self.masks = masks

    def sample(self, image: Image.Image, row: int) -> Any:
        """The image as `(3, H, W)` and its objects, augmented for training."""
        known = self.files.annotations
        height, width = known.sizes[row].tolist()
        if image.size != (width, height):
            found = "{} x {}".format(*image.size)
            reason = f"it is {found} pixels, the annotations say {width} x {height}"
            return BrokenImage(self.files.path(row), reason)
        objects = known.objects(row, train=self.augment is not None, masks=self.masks)
        if self.augment is None:
            return to_tensor(image), objects
        return self.augment(image, objects)

    def together(self, samples: list[Any], rows: Tensor) -> tuple[Any, Any]:
        """Lists of the images and of their objects: they have different sizes."""
        return [image for image, _ in samples], [objects for _, objects in samples]
