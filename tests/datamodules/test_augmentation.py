from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from datamodules import InMemoryLoader, LabelledImages, Shuffle
from datamodules.augmentation import Augmentation, AugmentedImages

MEAN, STD = [0.5, 0.25, 0.1], [0.2, 0.3, 0.4]


def images(count: int, height: int = 6, width: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(1, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def augmented(pixels: Tensor, epoch: int, seed: int = 0, **options: Any) -> Tensor:
    store = AugmentedImages(pixels, Augmentation(seed, **options), MEAN)
    return store.pixels(store.draw(epoch), torch.arange(len(pixels)))


def served(
    pixels: Tensor, epoch: int = 0, batch_size: int = 4, done: int = 0, **options: Any
) -> dict[int, Tensor]:
    """What a loader makes of every image, by row."""
    settings = {"crop_padding": 2, "flip": True, "cutout": 3, "seed": 1}
    names = ("crop_padding", "padding_mode", "flip", "cutout", "seed")
    settings |= {name: options.pop(name) for name in names if name in options}
    loader = InMemoryLoader(
        LabelledImages(pixels, torch.zeros(len(pixels), dtype=torch.int64)),
        options.pop("served_rows", range(len(pixels))),
        batch_size,
        shuffle=Shuffle(8),
        position=lambda: (epoch, done),
        mean=MEAN,
        std=STD,
        augmentation=Augmentation(**settings),  # type: ignore[arg-type]
        **options,
    )
    return {
        row: image
        for batch, _, rows in loader
        for row, image in zip(rows.tolist(), batch, strict=True)
    }


# Crop and flip


@pytest.mark.parametrize("mode", ["zeros", "reflect", "mean"])
@pytest.mark.parametrize("flip", [False, True])
def test_an_image_becomes_every_window_of_its_padded_self_equally_often(
    mode: str, flip: bool
) -> None:
    image = images(1)[0]
    if mode == "reflect":
        padded = F.pad(image, [2, 2, 2, 2], padding_mode="reflect")
    elif mode == "zeros":
        padded = F.pad(image, [2, 2, 2, 2], fill=0)
    else:  # half rounds to even: 127.5, 63.75 and 25.5
        padded = F.pad(image, [2, 2, 2, 2], fill=[128.0, 64.0, 26.0])
    expected = [
        F.horizontal_flip(window) if mirrored else window
        for mirrored in range(1 + flip)
        for top in range(5)
        for left in range(5)
        for window in [F.crop(padded, top, left, 6, 5)]
    ]
    count = 200 * len(expected)
    options = {"crop_padding": 2, "padding_mode": mode, "flip": flip}
    found = augmented(image.expand(count, -1, -1, -1), 0, **options)
    times = Counter(image.numpy().tobytes() for image in found)
    # Mirrored padding makes some windows of the mirrored image windows of the image.
    ways = Counter(window.numpy().tobytes() for window in expected)
    assert times.keys() == ways.keys()
    for window, number in ways.items():
        assert times[window] == pytest.approx(200 * number, abs=5 * (200 * number) ** 0.5)


@given(pad=st.integers(0, 4), height=st.integers(5, 9), width=st.integers(5, 9))
@settings(deadline=None, max_examples=30)
def test_reflected_padding_is_numpys(pad: int, height: int, width: int) -> None:
    pixels = images(3, height, width)
    sides = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    padded = torch.from_numpy(np.pad(pixels.numpy(), sides, mode="reflect"))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1).flatten(2, 3)  # (N, C, K, H, W)
    found = augmented(pixels, 3, crop_padding=pad, padding_mode="reflect", flip=False)
    assert windows.eq(found.unsqueeze(2)).all(dim=(1, 3, 4)).any(dim=1).all()


def test_without_options_nothing_is_done() -> None:
    pixels = images(7)
    assert torch.equal(augmented(pixels, 2), pixels)
    assert not Augmentation(0)
    assert Augmentation(0, flip=True)


def test_flipping_alone_mirrors_about_half_of_the_images() -> None:
    pixels = images(400)
    found = augmented(pixels, 0, flip=True)
    mirrored = found.eq(pixels.flip(3)).flatten(1).all(dim=1)
    assert torch.equal(found[~mirrored], pixels[~mirrored])
    assert mirrored.sum().item() == pytest.approx(200, abs=50)


def test_padding_with_the_mean_is_nothing_after_normalisation() -> None:
    pixels = images(50)
    options = {"crop_padding": 5, "padding_mode": "mean", "flip": False, "cutout": 0}
    found = torch.stack(list(served(pixels, **options).values()))
    assert found.abs().lt(0.51 / 255 / min(STD)).all(dim=1).any(dim=(1, 2)).float().mean() > 0.9


def test_padding_with_the_mean_needs_a_mean() -> None:
    with pytest.raises(ValueError, match="padding_mode='mean' needs the colour"):
        AugmentedImages(images(1), Augmentation(0, 2, "mean"))


# Cutout


@given(side=st.integers(1, 9), epoch=st.integers(0, 20))
@settings(deadline=None, max_examples=50)
def test_a_hole_is_a_square_cut_off_at_the_border(side: int, epoch: int) -> None:
    store = AugmentedImages(images(20), Augmentation(0, cutout=side))
    rows = torch.arange(20)
    draws = store.draw(epoch)
    kept = store.cut_out_(torch.ones(20, 3, 6, 5), draws, rows)
    for image, (row, column) in zip(kept, draws.holes.tolist(), strict=True):
        expected = torch.ones(6, 5)
        top, left = row - side // 2, column - side // 2
        expected[max(0, top) : top + side, max(0, left) : left + side] = 0
        assert torch.equal(image, expected.expand(3, -1, -1))


def test_every_pixel_is_as_likely_the_centre_of_the_hole() -> None:
    store = AugmentedImages(images(1).expand(3000, -1, -1, -1), Augmentation(0, cutout=1))
    holes = store.draw(0).holes
    counts = torch.bincount(holes[:, 0] * 5 + holes[:, 1], minlength=30)
    assert len(counts) == 30
    assert counts.sub(100).abs().max() < 50


def test_a_hole_is_zero_after_normalisation() -> None:
    pixels = images(30)
    whole, cut = served(pixels, cutout=0), served(pixels, cutout=2)
    for row in range(30):
        changed = whole[row] != cut[row]
        assert cut[row][changed].eq(0).all()
        assert 1 <= changed[0].sum() <= 4


# What the draws depend on


@given(
    count=st.integers(1, 30),
    epoch=st.integers(0, 1000),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 3),
)
@settings(deadline=None, max_examples=60)
def test_neither_batch_size_nor_devices_change_a_pixel(
    count: int, epoch: int, batch_size: int, world_size: int
) -> None:
    pixels = images(count)
    alone = served(pixels, epoch, batch_size=count)
    for rank in range(world_size):
        shared = served(pixels, epoch, batch_size, rank=rank, world_size=world_size)
        assert all(torch.equal(image, alone[row]) for row, image in shared.items())


def test_a_resumed_epoch_has_the_same_pixels() -> None:
    pixels = images(22)
    whole, rest = served(pixels, 3), served(pixels, 3, done=2)
    assert len(rest) == 22 - 8
    assert all(torch.equal(image, whole[row]) for row, image in rest.items())


def test_a_holdout_changes_no_pixel_of_the_other_images() -> None:
    pixels = images(22)
    whole, part = served(pixels), served(pixels, served_rows=range(10))
    assert all(torch.equal(image, whole[row]) for row, image in part.items())
    assert sorted(part) == list(range(10))


def test_one_option_does_not_change_what_another_draws() -> None:
    pixels = images(40)
    cropped = augmented(pixels, 0, crop_padding=2)
    both = augmented(pixels, 0, crop_padding=2, flip=True)
    unmirrored = both.eq(cropped).flatten(1).all(dim=1)
    assert unmirrored.sum().item() == pytest.approx(20, abs=12)


def test_seed_and_epoch_change_the_draws() -> None:
    pixels = images(40)
    found = {
        augmented(pixels, epoch, seed, crop_padding=2).numpy().tobytes()
        for epoch in range(4)
        for seed in range(4)
    }
    assert len(found) == 16


def test_the_pixels_of_a_seed_stay_what_they_were() -> None:
    store = AugmentedImages(images(4), Augmentation(7, crop_padding=2, flip=True, cutout=2))
    windows, holes = store.draw(3)
    assert windows.tolist() == [39, 292, 1633, 849]
    assert holes.tolist() == [[0, 3], [5, 1], [5, 3], [4, 3]]


def test_augmentation_leaves_images_and_global_generators_alone() -> None:
    pixels = images(10)
    before = torch.get_rng_state()
    served(pixels)
    assert torch.equal(pixels, images(10))
    assert torch.equal(torch.get_rng_state(), before)
