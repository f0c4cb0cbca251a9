import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform
from torch import Tensor
from torchvision import transforms
from torchvision.io import decode_image

from datamodules.image_transforms import EvalTransform, Lighting, TrainTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RANDAUGMENT = "rand-m9-mstd0.5-inc1"


def train_transform(**options: Any) -> TrainTransform:
    classic: dict[str, Any] = {
        "size": 48,
        "interpolation": "bilinear",
        "scale": (0.08, 1.0),
        "ratio": (3 / 4, 4 / 3),
        "flip": True,
        "color_jitter": 0.0,
        "lighting": 0.0,
        "auto_augment": None,
        "erase_prob": 0.0,
        "erase_mode": "pixel",
        "erase_count": 1,
        "mean": MEAN,
        "std": STD,
    }
    return TrainTransform(**(classic | options))


def eval_transform(**options: Any) -> EvalTransform:
    classic: dict[str, Any] = {"size": 48, "crop_pct": 0.875, "interpolation": "bilinear"}
    return EvalTransform(**(classic | options), mean=MEAN, std=STD)


@pytest.fixture(scope="module")
def photo(shared_data: Path) -> Path:
    return shared_data / "imagenet-mini" / "train" / "n02086240" / "n02086240_4256.JPEG"


@pytest.fixture(scope="module")
def image(photo: Path) -> Image.Image:
    return Image.open(photo).convert("RGB")


def drawn(transform: Callable[[Any], Tensor], image: Any, seed: int) -> Tensor:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return transform(image)


# Published recipes

RECIPES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "torchvision, KernelWarehouse traditional": ({}, {"color_jitter": None}),
    "KernelWarehouse, DeiT": (
        {"interpolation": "bicubic", "auto_augment": RANDAUGMENT, "erase_prob": 0.25},
        {
            "interpolation": "bicubic",
            "auto_augment": RANDAUGMENT,
            "color_jitter": 0.4,
            "re_prob": 0.25,
            "re_mode": "pixel",
            "re_count": 1,
        },
    ),
    "timm's defaults": (
        {"interpolation": "random", "color_jitter": 0.4},
        {"interpolation": "random", "color_jitter": 0.4},
    ),
    "no flip, small crops limited": (
        {"flip": False, "scale": (0.5, 1.0), "ratio": (1.0, 1.0)},
        {"color_jitter": None, "hflip": 0.0, "scale": (0.5, 1.0), "ratio": (1.0, 1.0)},
    ),
    "several rectangles": (
        {"erase_prob": 1.0, "erase_count": 3, "erase_mode": "rand"},
        {"color_jitter": None, "re_prob": 1.0, "re_count": 3, "re_mode": "rand"},
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_timms_transform(recipe: str, image: Image.Image) -> None:
    options, timms = RECIPES[recipe]
    ours = train_transform(**options).build("pil")
    theirs = create_transform(48, is_training=True, mean=MEAN, std=STD, **timms)
    for seed in range(10):
        assert torch.equal(drawn(ours, image, seed), drawn(theirs, image, seed))


@pytest.mark.parametrize("decoder", ["pil", "fast"])
def test_gluoncvs_recipe_is_the_jittered_image_in_another_light(
    decoder: Any, image: Image.Image, photo: Path
) -> None:
    decoded = image if decoder == "pil" else decode_image(str(photo))
    jittered = train_transform(color_jitter=0.4).build(decoder)
    lit = train_transform(color_jitter=0.4, lighting=0.1).build(decoder)
    shifts = set()
    for seed in range(5):
        found, expected = drawn(lit, decoded, seed), drawn(jittered, decoded, seed)
        shift = Lighting(0.1)(torch.zeros(3, 1, 1))  # drawn next, and added before normalisation
        torch.testing.assert_close(found, expected + shift / torch.tensor(STD).view(3, 1, 1))
        shifts.add(shift[0].item())
    assert len(shifts) == 5


def test_light_shifts_colours_along_their_principal_components() -> None:
    grey = torch.full((3, 2, 2), 0.5)
    lighting = Lighting(0.1)
    torch.manual_seed(0)
    shifts = torch.stack([(lighting(grey) - grey)[:, 0, 0] for _ in range(4000)])
    values, vectors = torch.linalg.eigh(shifts.T.cov())
    deviations = values.sqrt().flip(0)
    assert deviations.tolist() == pytest.approx([0.02175, 0.00188, 0.00045], rel=0.05)
    brightest = vectors[:, -1].abs()
    assert brightest.tolist() == pytest.approx([0.5675, 0.5808, 0.5836], abs=0.01)
    assert shifts.mean(dim=0).abs().max() < 0.002


# Evaluation


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_is_the_classic_resize_and_centre_crop(
    interpolation: Any, image: Image.Image
) -> None:
    ours = eval_transform(size=224, interpolation=interpolation).build("pil")
    classic = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode(interpolation)),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    assert torch.equal(ours(image), classic(image))


def test_the_crop_percentage_says_what_is_left_out(image: Image.Image) -> None:
    whole = eval_transform(crop_pct=1.0).build("pil")(image)
    part = eval_transform(crop_pct=0.5).build("pil")(image)
    square = eval_transform(size=96, crop_pct=1.0).build("pil")(image)
    assert whole.shape == part.shape == (3, 48, 48)
    assert torch.equal(part, square[:, 24:72, 24:72])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("grey", [False, True])
def test_the_fast_decoder_shows_the_same_picture(
    interpolation: Any, grey: bool, image: Image.Image, photo: Path, tmp_path: Path
) -> None:
    path = tmp_path / "grey.jpg"
    if grey:
        image.convert("L").save(path)
        image, photo = Image.open(path).convert("RGB"), path
    transform = eval_transform(size=224, interpolation=interpolation)
    slow = transform.build("pil")(image)
    fast = transform.build("fast")(decode_image(str(photo), mode="RGB"))
    difference = (slow - fast).abs() * 255 * torch.tensor(STD).view(3, 1, 1)
    assert difference.mean() < 1  # of 255 levels
    assert difference.max() < 16


# The fast decoder in training


def test_the_fast_decoder_crops_and_flips_alike(image: Image.Image, photo: Path) -> None:
    options = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "color_jitter": 0.0}
    square = image.crop((0, 0, 300, 300))
    pixels = decode_image(str(photo))[:, :300, :300]
    slow = train_transform(flip=False, **options).build("pil")(square)
    fast = train_transform(flip=False, **options).build("fast")(pixels)
    assert (slow - fast).abs().mean() < 0.02
    flipped = train_transform(**options).build("fast")
    found = [drawn(flipped, pixels, seed) for seed in range(20)]
    mirrored = sum(torch.equal(one, fast.flip(2)) for one in found)
    assert 3 <= mirrored <= 17
    assert mirrored + sum(torch.equal(one, fast) for one in found) == 20


def test_the_fast_decoder_erases_and_chooses_interpolations(photo: Path) -> None:
    pixels = decode_image(str(photo))
    options = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "flip": False}
    plain, erased = (
        train_transform(erase_prob=prob, erase_mode="const", **options).build("fast")
        for prob in (0.0, 1.0)
    )
    change = drawn(plain, pixels, 0) - drawn(erased, pixels, 0)
    assert 0.01 < change.ne(0).all(dim=0).float().mean() < 0.4
    chosen = train_transform(interpolation="random", **options).build("fast")
    assert len({drawn(chosen, pixels, seed)[0].std().item() for seed in range(20)}) > 1


# Options without sense


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interpolation": "nearest"}, "train_interpolation='nearest' must be 'bilinear'"),
        ({"scale": (0.5, 0.2)}, r"scale=\[0.5, 0.2\] must be 0 < least <= greatest <= 1"),
        ({"scale": (0.5, 2.0)}, r"scale=\[0.5, 2.0\] must be"),
        ({"ratio": (0.0, 1.0)}, r"ratio=\[0.0, 1.0\] must be 0 < least <= greatest"),
        ({"color_jitter": -0.1}, "color_jitter=-0.1 must be at least 0"),
        ({"lighting": -1.0}, "lighting=-1.0 must be at least 0"),
        ({"erase_prob": 1.5}, "erase_prob=1.5 must be a probability"),
        ({"erase_mode": "noise"}, "erase_mode='noise' must be 'const', 'rand' or 'pixel'"),
        ({"erase_count": 0}, "erase_count=0 must be at least 1"),
        ({"std": (0.0, 1.0, 1.0)}, "std=.* must be positive"),
        (
            {"color_jitter": 0.4, "auto_augment": RANDAUGMENT},
            "color_jitter=0.4 has no effect together with auto_augment='rand-m9",
        ),
    ],
)
def test_an_option_without_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        train_transform(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_pct": 0.0}, "crop_pct=0.0 must be more than 0"),
        ({"interpolation": "random"}, "interpolation='random' must be 'bilinear' or 'bicubic'"),
    ],
)
def test_an_evaluation_without_sense_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        eval_transform(**options)


def test_jitter_is_a_part_of_three_augment() -> None:
    assert train_transform(color_jitter=0.3, auto_augment="3a").build("pil")


@pytest.mark.parametrize("policy", ["nonsense", "rand-q9"])
def test_a_policy_that_timm_does_not_know_is_named(policy: str) -> None:
    with pytest.raises(
        ValueError, match=f"auto_augment='{policy}' is no policy that timm"
    ) as error:
        train_transform(auto_augment=policy).build("pil")
    assert "\n" not in str(error.value)


def test_the_fast_decoder_refuses_what_needs_pil() -> None:
    transform = train_transform(auto_augment=RANDAUGMENT)
    with pytest.raises(ValueError, match="decode='fast' has no auto_augment"):
        transform.build("fast")
