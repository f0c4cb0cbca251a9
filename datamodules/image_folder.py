"""Images in class folders: which there are, of which class, and what the whole is known by."""

import hashlib
import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS  # type: ignore[import-untyped]

from datamodules.official import ROOT_VARIABLE

SPLITS = ("train", "val")
SUBFOLDER = "imagenet"
NAMED_AT_MOST = 5


class ImageFolder:
    """The images of one split: `folder/<class>/<image>`, in any depth below the class folder.

    Classes are numbered in the order of their names, images stand in the order of classes and
    names. A million names are kept as one array, which worker processes share without copying.

    Args:
        folder: Folder of the split.

    Attributes:
        classes: Names of the classes.
        targets: Class number of every image, int64 (N,).

    Raises:
        FileNotFoundError: The folder has no class folders, or some of them hold no image.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.classes = class_names(folder)
        if not self.classes:
            raise FileNotFoundError(
                f"{folder} has no class folders; every image belongs into a folder that is named "
                f"after its class"
            )
        images = [_images_below(folder / name) for name in self.classes]
        empty = [name for name, found in zip(self.classes, images, strict=True) if not found]
        if empty:
            raise FileNotFoundError(
                f"{folder}: no image in {len(empty)} of {len(images)} class folders "
                f"({some(empty)}); put the images there, or remove the folders"
            )
        counts = torch.tensor([len(found) for found in images])
        self.targets: Tensor = torch.arange(len(images)).repeat_interleave(counts)
        self._names = np.array([name for found in images for name in found])

    def __len__(self) -> int:
        """Number of images."""
        return len(self._names)

    def path(self, row: int) -> str:
        """Path of an image."""
        return os.path.join(self.folder, self._relative_path(row))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of all names, relative to the folder, and sizes in bytes; not of the contents."""
        digest = hashlib.sha256()
        for row in range(len(self)):
            try:
                size = os.stat(self.path(row)).st_size
            except OSError:  # a dangling link: reading the image will say so
                size = -1
            line = f"{self._relative_path(row)}\0{size}\n"
            digest.update(line.encode(errors="surrogateescape"))
        return digest.hexdigest()

    def _relative_path(self, row: int) -> str:
        name = self._names[row].decode(errors="surrogateescape")
        return os.path.join(self.classes[int(self.targets[row])], name)


def class_names(folder: Path) -> list[str]:
    """Names of the class folders in the folder of a split, sorted; none if it does not exist."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def root_of_splits(root: Path) -> Path:
    """Folder with train and val: `root`, or the folder imagenet in it."""
    below = root / SUBFOLDER
    return below if any((below / split).is_dir() for split in SPLITS) else root


def open_split(root: Path, split: str, num_classes: int) -> ImageFolder:
    """List the images of one split, "train" or "val".

    Raises:
        FileNotFoundError: There are no images, or not in class folders.
        ValueError: The classes are not `num_classes`, or not those of the other split.
    """
    if not (root / split).is_dir():
        raise FileNotFoundError(
            f"no folder {split} in {root}; the images belong into train/<class>/ and val/<class>/ "
            f"there or in {root / SUBFOLDER}, or name the folder that has both with "
            f"--data.init_args.root or the environment variable {ROOT_VARIABLE}"
        )
    images = ImageFolder(root / split)
    for one, other in (SPLITS, SPLITS[::-1]):
        ours, theirs = class_names(root / one), class_names(root / other)
        missing = [name for name in theirs if name not in set(ours)]
        if ours and missing:
            raise ValueError(
                f"{root / one} lacks {len(missing)} of the class folders of {root / other} "
                f"({some(missing)}); both must have the same ones"
            )
    if len(images.classes) != num_classes:
        raise ValueError(
            f"num_classes={num_classes}, but {images.folder} has {len(images.classes)} class "
            f"folders; leave num_classes out to count them"
        )
    return images


def stratified_rows(targets: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows in two, the second with `count` rows and as much of every class as of any other.

    Args:
        targets: Class number of every row, int64 (N,).
        count: Number of rows in the second part.
        seed: Seed of the choice within a class.

    Returns:
        Rows of both parts in stored order, int64.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(targets), generator=generator)
    # Class by class, each in random order; a row's place in its class, from 0 to 1, says how early
    # it is chosen.
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    sizes = targets.bincount()
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    within = torch.arange(len(targets)) - starts
    place = torch.empty(len(targets), dtype=torch.float64)
    place[by_class] = (within + 0.5).double() / sizes.repeat_interleave(sizes)
    chosen = shuffled[place[shuffled].argsort(stable=True)[:count]]
    is_chosen = torch.zeros(len(targets), dtype=torch.bool)
    is_chosen[chosen] = True
    return (~is_chosen).nonzero().flatten(), is_chosen.nonzero().flatten()


def some(names: Iterable[str]) -> str:
    """The first few of `names`, and whether there are more."""
    listed = list(names)
    more = ", ..." if len(listed) > NAMED_AT_MOST else ""
    return ", ".join(listed[:NAMED_AT_MOST]) + more


def _images_below(folder: Path) -> list[bytes]:
    found = []
    for inside, _, names in os.walk(folder, followlinks=True):
        below = os.path.relpath(inside, folder)
        for name in names:
            if name.lower().endswith(IMG_EXTENSIONS) and not name.startswith("."):
                path = name if below == "." else os.path.join(below, name)
                found.append(path.encode(errors="surrogateescape"))
    return sorted(found)
