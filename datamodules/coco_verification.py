"""Checks a copy of COCO 2017: its layout, its annotations, and every image."""

from collections import Counter

from PIL import Image

from datamodules.coco import COCODataModule
from datamodules.coco_images import SPLITS, CocoImages
from datamodules.image_checks import broken_images
from datamodules.progress import Track, silently
from datamodules.verification import Verification

OFFICIAL_COUNTS = {"train": 118_287, "val": 5_000}


def verify_coco(
    root: str | None, *, quick: bool = False, workers: int = 0, track: Track = silently
) -> Verification:
    """Check the images and annotations of train2017 and val2017.

    Args:
        root: Folder with annotations, train2017 and val2017, or with a folder coco that has them.
        quick: Read the images' headers only, and no masks.
        workers: Number of worker processes that decode images; 0 for none.
        track: Shows how far it is.
    """
    data = COCODataModule(root)
    found = Verification(data.name, str(data.root))
    for split in SPLITS:
        try:
            images = data.train_images if split == "train" else data.test_images
        except (OSError, ValueError) as error:
            found.problems.append(str(error))
            continue
        found.facts[SPLITS[split]] = _describe(images)
        if len(images) != OFFICIAL_COUNTS[split]:
            found.facts["part"] = "not the whole of COCO 2017"
        broken = broken_images(images, quick=quick, workers=workers, track=track)
        found.problems += [f"{image.path} is broken ({image.reason})" for image in broken]
        found.problems += _wrong_sizes(images, {image.path for image in broken})
        if not quick:
            found.problems += images.annotations.faults()
    if not found.problems:
        found.fingerprint = data.fingerprint
    return found


def _describe(images: CocoImages) -> str:
    known = images.annotations
    records = [record for row in range(len(known)) for record in known.records(row)]
    things = [record for record in records if not record["iscrowd"]]
    classes = Counter(record["category_id"] for record in things)
    empty = int((known.counts == 0).sum())
    return (
        f"{len(known):,} images, {empty:,} without objects; {len(things):,} objects of "
        f"{len(classes)} classes of {len(known.classes)}, {len(records) - len(things):,} crowds"
    )


def _wrong_sizes(images: CocoImages, broken: set[str]) -> list[str]:
    """Images whose sizes are not those that the annotations say."""
    wrong = []
    for row in range(len(images)):
        if images.path(row) in broken:
            continue
        with Image.open(images.path(row)) as image:
            size = image.size
        height, width = images.annotations.sizes[row].tolist()
        if size != (width, height):
            found = "{} x {}".format(*size)
            wrong.append(f"{images.path(row)} is {found}, the annotations say {width} x {height}")
    return wrong
