"""Checks a data set of image files: its layout, its classes, and every image."""

import re
from pathlib import Path

from datamodules.image_checks import broken_images
from datamodules.image_files import ImageFiles, fingerprint
from datamodules.image_splits import (
    SPLITS,
    class_faults,
    layout_faults,
    read_split,
    root_of_splits,
    some,
)
from datamodules.imagenet import ImageNetDataModule
from datamodules.progress import Track, silently
from datamodules.verification import Verification

OFFICIAL_COUNTS = {"train": 1_281_167, "val": 50_000}


def verify_images(
    root: Path,
    *,
    quick: bool = False,
    workers: int = 0,
    track: Track = silently,
    fewer_in_val: bool = False,
) -> Verification:
    """Check images in `train/<class>/` and `val/<class>/`, or in shards.

    Args:
        root: Folder with train and val, or with a folder imagenet that has them.
        quick: Read the images' headers only.
        workers: Number of worker processes that decode images; 0 for none.
        track: Shows how far it is.
        fewer_in_val: Whether val may lack classes of train.
    """
    root = root_of_splits(root)
    found = Verification(ImageNetDataModule.name, str(root))
    splits: dict[str, ImageFiles] = {}
    for split in SPLITS:
        try:
            splits[split] = read_split(root / split)
        except (OSError, ValueError) as error:
            found.problems.append(str(error))
            continue
        found.problems += map(str, layout_faults(splits[split]))
        if splits[split].classes:
            found.counts[split] = splits[split].counts
    if len(splits) == len(SPLITS):
        found.problems += map(str, class_faults(root, fewer_in_val=fewer_in_val))
        if not found.problems:
            found.fingerprint = fingerprint(found.name, splits["train"], splits["val"])
    if found.counts:
        _judge_classes(found)
    for images in splits.values():
        for image in broken_images(images, quick=quick, workers=workers, track=track):
            found.problems.append(f"{image.path} is broken ({image.reason})")
    return found


def _judge_classes(found: Verification) -> None:
    """Hold classes and counts against those of ImageNet-1k."""
    # Imported here: it takes a second that no other data set needs.
    from timm.data import ImageNetInfo

    official = ImageNetInfo().label_names()
    classes = sorted({name for counts in found.counts.values() for name in counts})
    known = [name for name in official if name in set(classes)]
    if not known:
        found.facts["classes"] = "none of ImageNet-1k's; numbered in the order of their names"
        return
    others = [name for name in classes if name not in set(official)]
    found.facts["classes"] = "those of ImageNet-1k, in their official order"
    if known != official:
        part = f"{len(known):,} of ImageNet-1k's {len(official):,}"
        found.facts["classes"] = f"a subset, {part}, in their official order"
    if others:
        found.facts["classes"] += f", and {len(others):,} more ({some(others)})"
    found.problems += [
        f"{found.root}: folder {name} among those of ImageNet's classes makes a class of its own; "
        f"remove it if it is none"
        for name in others
        if not re.fullmatch(r"n\d{8}", name)
    ]
    if classes == official:
        totals = {split: sum(counts.values()) for split, counts in found.counts.items()}
        found.problems += [
            f"{found.root}: {split} has {total:,} images, ImageNet-1k {OFFICIAL_COUNTS[split]:,}"
            for split, total in totals.items()
            if total != OFFICIAL_COUNTS[split]
        ]
