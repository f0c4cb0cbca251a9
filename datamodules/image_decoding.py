"""Decoding of image files: with PIL or with torchvision, and what is said of a broken one."""

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Literal, NamedTuple

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from datamodules.image_files import ImageFiles

Decoder = Literal["pil", "fast"]
Decode = Callable[[BinaryIO], Any]

# What torchvision's messages begin with: function, file and line of its own.
_SOURCE_LINE = re.compile(r"^.*\.cpp:\d+, ")


class BrokenImage(NamedTuple):
    """An image file that cannot be decoded.

    Attributes:
        path: Where it is.
        reason: Why not, in one line.
    """

    path: str
    reason: str


def decoder(name: Decoder) -> Decode:
    """Function that decodes a file: to an RGB image of PIL, or to a tensor, uint8 (3, H, W).

    Raises:
        ValueError: There is no such decoder in this installation.
    """
    if name == "pil":
        return decode_pil
    # Or every image would be taken for a broken one. Later releases of torchvision drop it.
    if not has_fast_decoder():
        raise ValueError(
            "decode='fast' needs the image decoder of torchvision, which this installation lacks; "
            "choose decode='pil'"
        )
    return decode_fast


def has_fast_decoder() -> bool:
    """Whether torchvision can decode images in this installation."""
    try:
        from torchvision.io import decode_image  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        return False
    return hasattr(torch.ops.image, "decode_image")


def read_image(images: ImageFiles, row: int, decode: Decode) -> Any:
    """Decode one image; returns a `BrokenImage` if that fails."""
    try:
        with images.open(row) as file:
            return decode(file)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        return BrokenImage(images.path(row), "it is no image")
    except Exception as error:  # decoders raise whatever a broken file leads them to
        path = images.path(row)
        reason = " ".join(str(error).replace(path, "it").split())
        return BrokenImage(path, _SOURCE_LINE.sub("", reason) or type(error).__name__)


def decode_pil(file: BinaryIO) -> Image.Image:
    """Decode a file to an RGB image."""
    return Image.open(file).convert("RGB")


def decode_fast(file: BinaryIO) -> Tensor:
    """Decode a file to a tensor, uint8 (3, H, W)."""
    from torchvision.io import ImageReadMode, decode_image

    content = bytearray(file.read())
    if not content:
        raise ValueError("it is empty")
    encoded = torch.frombuffer(content, dtype=torch.uint8)
    image: Tensor = decode_image(encoded, mode=ImageReadMode.RGB)
    return image


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep the decoders from warning of what does not matter."""
    with warnings.catch_warnings():
        # Some of ImageNet's images have broken metadata, which nobody reads.
        warnings.filterwarnings("ignore", message=".*EXIF data", category=UserWarning)
        warnings.filterwarnings("ignore", message="The image decoding", category=DeprecationWarning)
        yield
