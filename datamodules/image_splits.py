"""Train and val of a set of image files: where they lie, what is wrong with them, a holdout."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from datamodules.image_files import ImageFiles
from datamodules.image_folder import ImageFolder, class_folders
from datamodules.image_shards import ImageShards, class_names_of_shards, has_shards
from datamodules.official import ROOT_VARIABLE

SPLITS = ("train", "val")
SUBFOLDER = "imagenet"
NAMED_AT_MOST = 5


def root_of_splits(root: Path) -> Path:
    """Folder with train and val: `root`, or the folder imagenet in it."""
    below = root / SUBFOLDER
    return below if any((below / split).is_dir() for split in SPLITS) else root


def class_names(folder: Path) -> list[str]:
    """Names of the classes in the folder of a split, sorted; none if it does not exist."""
    return class_names_of_shards(folder) if has_shards(folder) else class_folders(folder)


def read_split(folder: Path) -> ImageFiles:
    """List the images of one split, in shards or in class folders; there may be none.

    Raises:
        OSError: A folder cannot be read, or a shard is missing.
        ValueError: The shards are not whole.
    """
    return ImageShards(folder) if has_shards(folder) else ImageFolder(folder)


def open_split(
    root: Path, split: str, num_classes: int, *, fewer_in_val: bool = False
) -> ImageFiles:
    """List the images of one split, "train" or "val".

    Args:
        root: Folder of both splits.
        split: Which.
        num_classes: How many classes are expected.
        fewer_in_val: Whether val may lack classes of train; train then numbers its classes.

    Raises:
        FileNotFoundError: There are no images, or not in class folders.
        ValueError: The classes are not `num_classes`, or not those of the other split.
    """
    images = read_split(root / split)
    for fault in (*layout_faults(images), *class_faults(root, fewer_in_val=fewer_in_val)):
        raise fault
    if fewer_in_val and split == "val":
        images.number_classes(class_names(root / "train"))
    if len(images.classes) != num_classes:
        raise ValueError(
            f"num_classes={num_classes}, but {images.folder} has {len(images.classes)} class "
            f"folders; leave num_classes out to count them"
        )
    return images


def layout_faults(images: ImageFiles) -> Iterator[Exception]:
    """What is wrong with a split: its folder or class folders are missing, or some hold nothing."""
    folder = images.folder
    if not folder.is_dir():
        yield FileNotFoundError(
            f"no folder {folder.name} in {folder.parent}; the images belong into train/<class>/ "
            f"and val/<class>/ there or in {folder.parent / SUBFOLDER}, or name the folder that "
            f"has both with --data.init_args.root or the environment variable {ROOT_VARIABLE}"
        )
    elif not images.classes:
        yield FileNotFoundError(
            f"{folder} has no class folders; every image belongs into a folder that is named after "
            f"its class (data prepare imagenet makes them from the official archives)"
        )
    empty = [name for name, count in images.counts.items() if not count]
    if empty:
        yield FileNotFoundError(
            f"{folder}: no image in {len(empty)} of {len(images.classes)} class folders "
            f"({some(empty)}); put the images there, or remove the folders"
        )


def class_faults(root: Path, *, fewer_in_val: bool = False) -> Iterator[Exception]:
    """What is wrong with the classes of train and val: they are not the same, if they must be."""
    if fewer_in_val and not class_names(root / "train"):
        yield FileNotFoundError(
            f"no class folders in {root / 'train'}; they number the classes of val, which may be "
            "fewer: put train there (its class folders suffice for a test), or leave out "
            "fewer_classes_in_val"
        )
    for one, other in (SPLITS, SPLITS[::-1]):
        if fewer_in_val and one == "val":
            continue
        ours, theirs = class_names(root / one), class_names(root / other)
        missing = [name for name in theirs if name not in set(ours)]
        if ours and missing:
            yield ValueError(
                f"{root / one} lacks {len(missing)} of the class folders of {root / other} "
                f"({some(missing)}); both must have the same ones"
            )


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
    # Class by class, each in random order.
    by_class = shuffled[targets[shuffled].argsort(stable=True)]
    sizes = targets.bincount()
    # Every class gives its share rounded down, and those with the largest remainders one row more.
    shares, remainders = count * sizes // len(targets), count * sizes % len(targets)
    more = remainders.argsort(descending=True, stable=True)[: count - int(shares.sum())]
    shares[more] += 1
    starts = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    within = torch.arange(len(targets)) - starts
    chosen = by_class[within < shares.repeat_interleave(sizes)]
    is_chosen = torch.zeros(len(targets), dtype=torch.bool)
    is_chosen[chosen] = True
    return (~is_chosen).nonzero().flatten(), is_chosen.nonzero().flatten()


def some(names: Iterable[str]) -> str:
    """The first few of `names`, and whether there are more."""
    listed = list(names)
    more = ", ..." if len(listed) > NAMED_AT_MOST else ""
    return ", ".join(listed[:NAMED_AT_MOST]) + more
