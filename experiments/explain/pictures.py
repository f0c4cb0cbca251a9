"""Images of any folder, and how a network sees them."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS  # type: ignore[import-untyped]

from experiments.compose import ConfigError


@dataclass(frozen=True)
class View:
    """The largest part of an image, about its centre, that has a network's proportions, resized.

    Attributes:
        file: The image.
        pixels: `(C, H, W)` from 0 to 1.
        window: Left, top, right and bottom of the part, in the image's pixels.
    """

    file: Path
    pixels: Tensor
    window: tuple[float, float, float, float]


def find_images(folder: Path, count: int, among: Collection[str] | None = None) -> list[Path]:
    """Files of images in a folder and below it, evenly spaced in the order of their names.

    Args:
        folder: The folder.
        count: How many at most.
        among: Names of the files that count; None for all.

    Raises:
        ConfigError: There is no folder, or no such image in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"--images: no folder {folder}")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMG_EXTENSIONS)
    if not files:
        raise ConfigError(f"--images: no images in {folder} ({', '.join(IMG_EXTENSIONS)})")
    if among is not None:
        found, files = len(files), [file for file in files if file.name in among]
        if not files:
            raise ConfigError(f"--boxes: none of the {found} images in {folder} has a box there")
    number = min(count, len(files))
    return [files[place * len(files) // number] for place in range(number)]


def view_of(file: Path, size: tuple[int, int, int]) -> View:
    """Return how a network of images `size (C, H, W)` sees an image.

    Raises:
        ConfigError: The image cannot be read, or has neither one nor three channels to give.
    """
    channels, height, width = size
    if channels not in (1, 3):
        raise ConfigError(f"the network takes images of {channels} channels; files have 1 or 3")
    try:
        with Image.open(file) as opened:
            image = opened.convert("L" if channels == 1 else "RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ConfigError(f"--images: {file} cannot be read as an image ({error})") from None
    scale = min(image.width / width, image.height / height)
    left, top = (image.width - width * scale) / 2, (image.height - height * scale) / 2
    window = (left, top, left + width * scale, top + height * scale)
    resized = image.resize((width, height), Image.Resampling.BICUBIC, box=window)
    values = torch.from_numpy(np.array(resized, dtype=np.float32) / 255)
    pixels = values.unsqueeze(-1) if channels == 1 else values
    return View(file, pixels.permute(2, 0, 1).contiguous(), window)
