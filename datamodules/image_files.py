"""Image files of one split: which there are, of which class, and what the whole is known by."""

import hashlib
import os
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class ImageFiles(ABC):
    """Images that are stored as files; how, a subclass says.

    Classes are numbered in the order of their names, images stand in the order of classes and
    names. So the rows are the same however the files are stored, and so are batches, holdout and
    `sha256`. A million names are kept as one array, which worker processes share without copying.

    Args:
        folder: Folder of the split.
        classes: Names of the classes, sorted.
        targets: Class number of every image, int64 (N,).
        names: Names of the images below their class's folder, encoded, (N,).
    """

    def __init__(
        self, folder: Path, classes: list[str], targets: Tensor, names: NDArray[np.bytes_]
    ) -> None:
        self.folder = folder
        self.classes = classes
        self.targets = targets
        self.names = names

    def __len__(self) -> int:
        """Number of images."""
        return len(self.names)

    def name(self, row: int) -> str:
        """`<class>/<image>` of an image."""
        name = self.names[row].decode(errors="surrogateescape")
        return os.path.join(self.classes[int(self.targets[row])], name)

    @abstractmethod
    def path(self, row: int) -> str:
        """Where an image is, as messages say it."""

    @abstractmethod
    def size(self, row: int) -> int:
        """Size of an image's file in bytes.

        Raises:
            OSError: There is no such file.
        """

    @abstractmethod
    def open(self, row: int) -> BinaryIO:
        """Open an image's file for reading.

        Raises:
            OSError: It cannot be opened.
        """

    def number_classes(self, classes: list[str]) -> None:
        """Number the classes by their places in `classes`, which holds them all and maybe more."""
        places = {name: place for place, name in enumerate(classes)}
        self.targets = torch.tensor([places[name] for name in self.classes])[self.targets]
        self.classes = classes

    @property
    def counts(self) -> dict[str, int]:
        """Number of images of every class."""
        counts = torch.bincount(self.targets, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all names, relative to the folder, and sizes in bytes; not of the contents."""
        digest = hashlib.sha256()
        for row in range(len(self)):
            try:
                size = self.size(row)
            except OSError:  # a dangling link: reading the image will say so
                size = -1
            digest.update(f"{self.name(row)}\0{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def fingerprint(
    name: str, train: ImageFiles, test: ImageFiles, holdout: int = 0, validate_on_test: bool = False
) -> dict[str, Any]:
    """What run records say of the data: SHA-256 of names and sizes, and how many serve what."""
    return {
        "name": name,
        "sha256": hashlib.sha256((train.sha256 + test.sha256).encode()).hexdigest(),
        "classes": len(train.classes),
        "train": len(train) - holdout,
        "val": len(test) if validate_on_test else holdout,
        "test": len(test),
    }
