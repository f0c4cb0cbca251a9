import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch import Tensor

from datamodules.image_decoding import BrokenImage, decoder, quiet_decoders, read_image
from datamodules.image_folder import ImageFolder


def decoded(name: Any, folder: ImageFolder, row: int) -> Tensor:
    with quiet_decoders():
        image = read_image(folder, row, decoder(name))
    assert not isinstance(image, BrokenImage)
    return image if isinstance(image, Tensor) else torch.tensor(np.array(image)).permute(2, 0, 1)


def files(folder: Path) -> Iterator[tuple[Path, "np.ndarray[Any, Any]"]]:
    """Files as ImageNet has them, and a few more, with the pixels that they hold, about."""
    folder.mkdir(parents=True)
    smooth = np.add.outer(np.arange(24) * 6, np.arange(32) * 3).astype(np.uint8)
    colour = np.stack([smooth, smooth[::-1], smooth[:, ::-1]], axis=2)
    grey = np.stack([smooth] * 3, axis=2)

    def saved(name: str, image: Image.Image, **options: Any) -> Path:
        image.save(folder / name, quality=95, **options)
        return folder / name

    rgb = Image.fromarray(colour)
    yield saved("plain.jpg", rgb), colour
    yield saved("grey.jpg", Image.fromarray(smooth)), grey
    yield saved("png_called.jpg", rgb, format="PNG"), colour
    yield saved("alpha.png", Image.fromarray(np.dstack([colour, smooth]))), colour
    yield saved("progressive.jpg", rgb, progressive=True), colour
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    yield saved("profile.jpg", rgb, icc_profile=profile), colour
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down: the recipes do not turn it
    yield saved("turned.jpg", rgb, exif=exif), colour
    yield saved("broken_exif.jpg", rgb, exif=b"Exif\0\0nonsense"), colour


@pytest.mark.parametrize("name", ["pil", "fast"])
@pytest.mark.filterwarnings("error")
def test_every_kind_of_file_is_decoded_to_three_channels(name: Any, tmp_path: Path) -> None:
    expected = dict(files(tmp_path / "a"))
    folder = ImageFolder(tmp_path)
    assert len(folder) == len(expected) == 8
    for row in range(8):
        path = Path(folder.path(row))
        image = decoded(name, folder, row)
        difference = image.permute(1, 2, 0).int() - torch.tensor(expected[path].astype(np.int32))
        assert difference.abs().float().mean() < 3, path.name


@pytest.mark.parametrize("name", ["pil", "fast"])
def test_four_colour_prints_are_decoded(name: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("CMYK", (32, 24), (0, 255, 255, 0)).save(tmp_path / "a" / "red.jpg")
    image = decoded(name, ImageFolder(tmp_path), 0)
    red, green, blue = image.float().mean(dim=(1, 2)).tolist()
    assert red > 200
    assert max(green, blue) < 60


@pytest.mark.parametrize("name", ["pil", "fast"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: content[:-200], "image (file )?is (incomplete or )?truncated.*"),
        (lambda content: b"", "it is no image|it is empty"),
        (lambda content: b"<html>not found</html>", "it is no image|unsupported image file.*"),
    ],
)
def test_what_is_wrong_with_a_broken_file_is_said_in_short(
    name: Any, change: Any, reason: str, image_folders: Path, tmp_path: Path
) -> None:
    content = Path(ImageFolder(image_folders / "train").path(0)).read_bytes()
    path = tmp_path / "a" / "1.jpg"
    path.parent.mkdir()
    path.write_bytes(change(content))
    broken = read_image(ImageFolder(tmp_path), 0, decoder(name))
    assert isinstance(broken, BrokenImage)
    assert broken.path == str(path)
    assert re.fullmatch(reason, broken.reason.lower())


def test_without_the_fast_decoder_no_image_is_taken_for_broken(
    image_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.io

    monkeypatch.delattr(torchvision.io, "decode_image")
    with pytest.raises(ValueError, match="decode='fast' needs the image decoder of torchvision"):
        decoder("fast")
    assert decoded("pil", ImageFolder(image_folders / "train"), 0).shape[0] == 3
