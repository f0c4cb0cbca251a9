"""Flipping, resizing and cropping of images with boxes and masks, as the papers' toolbox does."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

Objects = dict[str, Tensor]


@dataclass(frozen=True)
class DetectionTransform:
    """What is done to a training image with its objects.

    Attributes:
        sizes: Shorter sides in pixels, of which one is drawn.
        max_size: Longer side that is not exceeded, the proportions kept.
        flip: Probability of a horizontal flip.
        crop: Probability of a random crop before the resizing.
        crop_sizes: Shorter sides in pixels before the crop, of which one is drawn.
        crop_range: Smallest and largest side of the crop in pixels, drawn for each axis.
    """

    sizes: Sequence[int] = (800,)
    max_size: int = 1333
    flip: float = 0.5
    crop: float = 0.0
    crop_sizes: Sequence[int] = (400, 500, 600)
    crop_range: tuple[int, int] = (384, 600)

    def __call__(self, image: Image.Image, objects: Objects) -> tuple[Tensor, Objects]:
        """Return the image as `(3, H, W)` with values from 0 to 1, and its objects in it."""
        pixels = to_tensor(image)
        if random.random() < self.flip:
            pixels, objects = flip(pixels, objects)
        if random.random() < self.crop:
            pixels, objects = resize(pixels, objects, random.choice(self.crop_sizes), self.max_size)
            pixels, objects = self._cropped(pixels, objects)
        return resize(pixels, objects, random.choice(self.sizes), self.max_size)

    def _cropped(self, pixels: Tensor, objects: Objects) -> tuple[Tensor, Objects]:
        """Cut a random part out; objects whose boxes are not in it are gone."""
        least, most = self.crop_range
        sides = pixels.shape[1:]
        height, width = (random.randint(min(least, side), min(most, side)) for side in sides)
        top = random.randint(0, sides[0] - height)
        left = random.randint(0, sides[1] - width)
        boxes = objects["boxes"] - torch.tensor([left, top, left, top])
        boxes[:, 0::2].clamp_(0, width)
        boxes[:, 1::2].clamp_(0, height)
        cut = {**objects, "boxes": boxes}
        rows, columns = slice(top, top + height), slice(left, left + width)
        if "masks" in objects:
            cut["masks"] = objects["masks"][:, rows, columns]
        kept = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return pixels[:, rows, columns], {name: value[kept] for name, value in cut.items()}


def to_tensor(image: Image.Image) -> Tensor:
    """The pixels of an RGB image, float32 (3, H, W) from 0 to 1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)


def flip(pixels: Tensor, objects: Objects) -> tuple[Tensor, Objects]:
    """Flip an image and its objects from left to right."""
    width = pixels.shape[2]
    flipped = {**objects, "boxes": objects["boxes"].clone()}
    flipped["boxes"][:, [0, 2]] = width - objects["boxes"][:, [2, 0]]
    if "masks" in objects:
        flipped["masks"] = objects["masks"].flip(2)
    return pixels.flip(2), flipped


def resize(pixels: Tensor, objects: Objects, shorter: int, longer: int) -> tuple[Tensor, Objects]:
    """Resize an image and its objects, the proportions kept.

    Pixels are interpolated without smoothing, as OpenCV does it, masks take the nearest pixel.

    Args:
        pixels: `(3, H, W)`.
        objects: Its objects.
        shorter: The shorter side shall have so many pixels.
        longer: The longer side must not have more.
    """
    sides = pixels.shape[1:]
    factor = min(shorter / min(sides), longer / max(sides))
    size = [max(1, int(side * factor + 0.5)) for side in sides]
    bigger: Any = F.interpolate(pixels[None], size, mode="bilinear", align_corners=False)[0]
    height, width = (new / old for new, old in zip(size, sides, strict=True))
    resized = {
        **objects,
        "boxes": objects["boxes"] * torch.tensor([width, height, width, height]),
    }
    if "masks" in objects:
        # Without an object there is nothing that could be interpolated.
        masks = objects["masks"]
        resized["masks"] = (
            F.interpolate(masks[None], size, mode="nearest")[0]
            if len(masks)
            else masks.new_zeros(0, *size)
        )
    return bigger, resized
