"""Images in class folders."""

import os
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS  # type: ignore[import-untyped]

from datamodules.image_files import ImageFiles


class ImageFolder(ImageFiles):
    """The images of one split: `folder/<class>/<image>`, in any depth below the class folder.

    Args:
        folder: Folder of the split.

    Raises:
        OSError: A folder cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        classes = class_folders(folder)
        images = [_images_below(folder / name) for name in classes]
        counts = torch.tensor([len(found) for found in images], dtype=torch.int64)
        targets = torch.arange(len(images)).repeat_interleave(counts)
        names = np.array([name for found in images for name in found], np.bytes_)
        super().__init__(folder, classes, targets, names)

    def path(self, row: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, self.name(row))

    def size(self, row: int) -> int:
        """Size of an image's file in bytes."""
        return os.stat(self.path(row)).st_size

    def open(self, row: int) -> BinaryIO:
        """Open an image's file for reading."""
        return open(self.path(row), "rb")


def class_folders(folder: Path) -> list[str]:
    """Names of the class folders in the folder of a split, sorted; none if it does not exist."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def is_image(name: str) -> bool:
    """Whether a file of that name is taken for an image, as torchvision does; hidden ones not."""
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _images_below(folder: Path) -> list[bytes]:
    found = []
    for inside, _, names in os.walk(folder, followlinks=True, onerror=_fail):
        below = os.path.relpath(inside, folder)
        for name in filter(is_image, names):
            path = name if below == "." else os.path.join(below, name)
            found.append(path.encode(errors="surrogateescape"))
    return sorted(found)


def _fail(error: OSError) -> NoReturn:
    # Or the images of a folder that cannot be read would be left out without a word.
    raise error
