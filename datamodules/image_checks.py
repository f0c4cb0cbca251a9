"""Checks that every image of a split can be decoded, and is whole."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from PIL import Image
from torch.utils.data import DataLoader, Dataset

from datamodules.image_decoding import (
    BrokenImage,
    decode_fast,
    decode_pil,
    has_fast_decoder,
    quiet_decoders,
    read_image,
)
from datamodules.image_files import ImageFiles
from datamodules.progress import Track

IMAGES_AT_ONCE = 32
JPEG_BEGINS = b"\xff\xd8"
COMPLAINT = "Corrupt JPEG data: "


def broken_images(
    images: ImageFiles, *, quick: bool, workers: int, track: Track
) -> list[BrokenImage]:
    """Find the images that cannot be decoded, or only with data missing.

    Args:
        images: The images.
        quick: Read their headers only.
        workers: Number of worker processes; 0 for none.
        track: Shows how far it is.

    Returns:
        The broken ones in stored order.
    """
    starts = range(0, len(images), IMAGES_AT_ONCE)
    chunks = [range(start, min(start + IMAGES_AT_ONCE, len(images))) for start in starts]
    loader = DataLoader(
        _Checks(images, quick),
        batch_size=None,
        sampler=chunks,
        num_workers=workers,
        collate_fn=list,
    )
    steps = track(loader, f"{images.folder.name}: {len(images):,} images", len(chunks))
    return [image for found in steps for image in found]


class _Checks(Dataset[list[BrokenImage]]):
    """Finds the broken images among some rows."""

    def __init__(self, images: ImageFiles, quick: bool) -> None:
        self.images = images
        self.decode = _read_header if quick else _decode_strictly

    def __getitem__(self, rows: Sequence[int]) -> list[BrokenImage]:
        with quiet_decoders():
            found = [read_image(self.images, row, self.decode) for row in rows]
        return [image for image in found if isinstance(image, BrokenImage)]


def _read_header(file: BinaryIO) -> None:
    Image.open(file)


def _decode_strictly(file: BinaryIO) -> None:
    decode_pil(file)
    file.seek(0)
    if not has_fast_decoder() or file.read(len(JPEG_BEGINS)) != JPEG_BEGINS:
        return
    # Data missing in the middle become a grey area without an error; libjpeg complains of them on
    # standard error, which PIL has switched off.
    file.seek(0)
    with _standard_error() as lines:
        decode_fast(file)
    complaints = [line for line in lines if line.startswith(COMPLAINT)]
    if complaints:
        raise ValueError(f"it is damaged: {complaints[0].removeprefix(COMPLAINT)}")


@contextmanager
def _standard_error() -> Iterator[list[str]]:
    """What libraries write to standard error meanwhile, as lines; complete at the end."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)
        file.seek(0)
        lines += file.read().decode(errors="replace").splitlines()
