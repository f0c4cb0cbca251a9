"""Random crop, flip and cutout of whole batches: every image its own, no loop over images.

What happens to an image is a function of seed, epoch and row alone. So it is the same for any batch
size and any number of devices, and in training that was resumed in the middle of an epoch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

PaddingMode = Literal["zeros", "reflect", "mean"]

# Sets these draws apart from others of the same seed and epoch.
_STREAM = 0x63726F70


@dataclass(frozen=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        seed: Seed, not negative.
        crop_padding: Pixels that images are padded by on each side before a window of their own
            size is cut out at a random place; 0 for no random crop.
        padding_mode: What the padding holds: "zeros" is black, as torchvision has it; "reflect"
            mirrors the image; "mean" is the colour that normalisation turns into zeros, as recipes
            of Torch have it, which pad normalised images.
        flip: Mirror left and right with probability 1/2.
        cutout: Side in pixels of a square around a random pixel, cut off at the image's border,
            that is set to 0 after normalisation; 0 for none (DeVries and Taylor 2017).
    """

    seed: int
    crop_padding: int = 0
    padding_mode: PaddingMode = "zeros"
    flip: bool = False
    cutout: int = 0

    def __bool__(self) -> bool:
        """Whether anything is done at all."""
        return bool(self.crop_padding or self.flip or self.cutout)


class EpochDraws(NamedTuple):
    """What is done to which image in one epoch.

    Attributes:
        windows: Number of each image's window in the stored pixels, int64 (N,).
        holes: Row and column of the centre of each image's hole, int64 (N, 2).
    """

    windows: Tensor
    holes: Tensor


class AugmentedImages:
    """Images, stored padded and, if they are flipped, mirrored as well; read window by window.

    A window of the stored pixels is one row of a strided view of them, so one `index_select` crops
    and flips a whole batch.

    Args:
        images: Pixels, uint8 (N, C, H, W).
        augmentation: What is done to them.
        mean: Mean colour, pixels from 0 to 1; needed by `padding_mode="mean"` alone.
    """

    def __init__(
        self, images: Tensor, augmentation: Augmentation, mean: Sequence[float] | None = None
    ) -> None:
        self.augmentation = augmentation
        self._count = len(images)
        self._size = images.shape[2:]
        pixels = torch.from_numpy(_stored(images.numpy(), augmentation, mean))
        self._strides = pixels.stride()
        inner = (*images.shape[1:2], *self._size)
        strides = self._strides[2:]
        last = sum((size - 1) * stride for size, stride in zip(inner, strides, strict=True))
        self._windows = pixels.view(-1).as_strided((pixels.numel() - last, *inner), (1, *strides))

    def draw(self, epoch: int) -> EpochDraws:
        """Draw what is done to every image in `epoch`, from 0."""
        key = (self.augmentation.seed, epoch, _STREAM)
        generator = torch.Generator()
        generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
        # Always the same numbers for an image, however many images and whatever options there are.
        numbers = torch.rand(self._count, 5, dtype=torch.float64, generator=generator)
        places = 2 * self.augmentation.crop_padding + 1
        height, width = self._size
        ranges = torch.tensor([places, places, 1 + self.augmentation.flip, height, width])
        top, left, mirrored, *hole = (numbers * ranges).long().unbind(dim=1)
        mirror_stride, image_stride, _, row_stride, _ = self._strides
        images = torch.arange(self._count) * image_stride
        windows = images + mirrored * mirror_stride + top * row_stride + left
        return EpochDraws(windows, torch.stack(hole, dim=1))

    def pixels(self, draws: EpochDraws, rows: Tensor) -> Tensor:
        """Cropped and flipped images of `rows (B,)`, uint8 (B, C, H, W)."""
        return self._windows.index_select(0, draws.windows[rows])

    def cut_out_(self, images: Tensor, draws: EpochDraws, rows: Tensor) -> Tensor:
        """Set the holes of the images of `rows (B,)` to 0 in `images (B, C, H, W)`, float."""
        side = self.augmentation.cutout
        if not side:
            return images
        tops, lefts = (draws.holes[rows] - side // 2).unsqueeze(2).unbind(dim=1)
        y, x = map(torch.arange, self._size)
        above_or_below = (y < tops) | (y >= tops + side)
        beside = (x < lefts) | (x >= lefts + side)
        kept = torch.maximum(
            above_or_below[:, None, :, None].to(images.dtype),
            beside[:, None, None, :].to(images.dtype),
        )
        return images.mul_(kept)  # three times as fast as filling where a mask says so


def _stored(
    images: NDArray[np.uint8], augmentation: Augmentation, mean: Sequence[float] | None
) -> NDArray[np.uint8]:
    """Padded images `(1 or 2, N, C, H, W)`: as they are and, if they are flipped, mirrored."""
    count, channels, height, width = images.shape
    pad = augmentation.crop_padding
    shape = (1 + augmentation.flip, count, channels, height + 2 * pad, width + 2 * pad)
    stored = np.zeros(shape, np.uint8)
    if augmentation.padding_mode == "mean":
        stored[:] = _colour(mean)
    inner = stored[..., pad : pad + height, pad : pad + width]
    inner[0] = images
    if augmentation.flip:
        inner[1] = images[..., ::-1]
    if augmentation.padding_mode == "reflect" and pad:
        _reflect(stored, pad)
        _reflect(stored.swapaxes(-1, -2), pad)
    return stored


def _reflect(stored: NDArray[np.uint8], pad: int) -> None:
    """Fill the padding above and below with the rows that mirror it; the edge stands once."""
    stored[..., :pad, :] = stored[..., 2 * pad : pad : -1, :]
    stored[..., -pad:, :] = stored[..., -pad - 2 : -2 * pad - 2 : -1, :]


def _colour(mean: Sequence[float] | None) -> NDArray[np.uint8]:
    if mean is None:
        raise ValueError("padding_mode='mean' needs the colour: give mean and std")
    return np.round(np.array(mean) * 255).astype(np.uint8).reshape(-1, 1, 1)
