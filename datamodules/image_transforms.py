"""Transforms of ImageNet recipes: from a decoded image to a normalised tensor.

Decoded by PIL, an image takes timm's transforms, which the published recipes are written in or are
equal to. Decoded by torchvision, it takes the same steps as torchvision's v2 transforms of tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.transforms import v2  # type: ignore[import-untyped]

from datamodules.image_decoding import Decoder
from datamodules.options import at_least, check_normalisation, one_of

Interpolation = Literal["bilinear", "bicubic"]
TrainInterpolation = Literal["bilinear", "bicubic", "random"]
EraseMode = Literal["const", "rand", "pixel"]
Transform = Callable[[Any], Tensor]

INTERPOLATIONS = ("bilinear", "bicubic")

# Principal components of ImageNet's colours, pixels from 0 to 1, and the standard deviation along
# each (Krizhevsky et al. 2012, section 4.1; the numbers are those that ResNeXt and GluonCV use).
COLOUR_COMPONENTS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
COLOUR_DEVIATIONS = (0.2175, 0.0188, 0.0045)


class Lighting(nn.Module):
    """PCA lighting noise: shifts the colour of a whole image along the components of all colours.

    Args:
        deviation: Standard deviation of the shift along each component, relative to the component's
            own.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation
        components = torch.tensor(COLOUR_COMPONENTS)
        self.register_buffer("components", components * torch.tensor(COLOUR_DEVIATIONS))

    def forward(self, image: Tensor) -> Tensor:
        """Return `image (3, H, W)`, pixels from 0 to 1, in other light."""
        shift = self.get_buffer("components") @ (torch.randn(3) * self.deviation)
        return image + shift.view(3, 1, 1)


@dataclass(frozen=True)
class TrainTransform:
    """What is done to a training image.

    Attributes:
        size: Side of the result.
        interpolation: How the crop is resized; "random" chooses one for each image.
        scale: Least and greatest area of the crop, relative to the image.
        ratio: Least and greatest ratio of the crop's width to its height.
        flip: Mirror left and right with probability 1/2.
        color_jitter: Greatest relative change of brightness, contrast and saturation.
        lighting: Standard deviation of PCA lighting noise.
        auto_augment: Policy as timm writes it, for example rand-m9-mstd0.5-inc1; None for none.
        erase_prob: Probability that a rectangle is erased, after normalisation.
        erase_mode: What it holds then: zeros, one random colour or random pixels.
        erase_count: Greatest number of rectangles.
        mean: Mean of every channel, pixels from 0 to 1.
        std: Standard deviation of every channel.

    Raises:
        ValueError: A value makes no sense.
    """

    size: int
    interpolation: TrainInterpolation
    scale: tuple[float, float]
    ratio: tuple[float, float]
    flip: bool
    color_jitter: float
    lighting: float
    auto_augment: str | None
    erase_prob: float
    erase_mode: EraseMode
    erase_count: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        one_of((*INTERPOLATIONS, "random"), train_interpolation=self.interpolation)
        one_of(("const", "rand", "pixel"), erase_mode=self.erase_mode)
        at_least(0, color_jitter=self.color_jitter, lighting=self.lighting)
        at_least(1, erase_count=self.erase_count)
        check_normalisation(self.mean, self.std, channels=3)
        for name, (low, high), limit in (("scale", self.scale, 1.0), ("ratio", self.ratio, None)):
            if not 0 < low <= high <= (limit or high):
                upper = f" <= {limit:g}" if limit else ""
                raise ValueError(f"{name}={[low, high]} must be 0 < least <= greatest{upper}")
        if not 0 <= self.erase_prob <= 1:
            raise ValueError(f"erase_prob={self.erase_prob} must be a probability, 0 to 1")
        # timm drops it silently, but for 3-Augment, which it is a part of.
        if self.color_jitter and self.auto_augment and "3a" not in self.auto_augment:
            raise ValueError(
                f"color_jitter={self.color_jitter} has no effect together with "
                f"auto_augment={self.auto_augment!r}; leave one of them out"
            )

    def check_fast(self) -> None:
        """Check that images of the fast decoder can take the transform.

        Raises:
            ValueError: They cannot.
        """
        if self.auto_augment:
            raise ValueError(
                f"decode='fast' has no auto_augment, which timm does with PIL: leave out "
                f"auto_augment={self.auto_augment!r}, or choose decode='pil'"
            )

    def build(self, decoder: Decoder) -> Transform:
        """Return the transform of images decoded by `decoder`.

        Raises:
            ValueError: The fast decoder's images cannot take it, or timm does not know the policy.
        """
        return self._of_tensors() if decoder == "fast" else self._of_pil_images()

    def _of_pil_images(self) -> Transform:
        # Imported here: it takes a second that no other data set needs.
        from timm.data import create_transform

        try:
            transform: Any = create_transform(
                input_size=self.size,
                is_training=True,
                scale=self.scale,
                ratio=self.ratio,
                hflip=0.5 if self.flip else 0.0,
                color_jitter=self.color_jitter or None,  # type: ignore[arg-type]
                auto_augment=self.auto_augment,
                interpolation=self.interpolation,
                mean=self.mean,
                std=self.std,
                re_prob=self.erase_prob,
                re_mode=self.erase_mode,
                re_count=self.erase_count,
            )
        except (AssertionError, KeyError, ValueError, IndexError) as error:
            raise ValueError(
                f"auto_augment={self.auto_augment!r} is no policy that timm knows "
                f"({' '.join(str(error).split()) or type(error).__name__})"
            ) from error
        if self.lighting:
            steps = transform.transforms
            after_scaling = 1 + [type(step).__name__ for step in steps].index("MaybeToTensor")
            steps.insert(after_scaling, Lighting(self.lighting))
        return transform  # type: ignore[no-any-return]

    def _of_tensors(self) -> Transform:
        self.check_fast()
        names = INTERPOLATIONS if self.interpolation == "random" else (self.interpolation,)
        crops = [
            v2.RandomResizedCrop(self.size, self.scale, self.ratio, v2.InterpolationMode(name))
            for name in names
        ]
        steps: list[Any] = [v2.RandomChoice(crops) if len(crops) > 1 else crops[0]]
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.color_jitter:
            steps.append(v2.ColorJitter(*[self.color_jitter] * 3))
        steps.append(v2.ToDtype(torch.float32, scale=True))
        if self.lighting:
            steps.append(Lighting(self.lighting))
        steps.append(v2.Normalize(self.mean, self.std))
        if self.erase_prob:
            from timm.data.random_erasing import RandomErasing

            steps.append(
                RandomErasing(
                    self.erase_prob,
                    mode=self.erase_mode,
                    max_count=self.erase_count,
                    device="cpu",
                )
            )
        return v2.Compose(steps)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class EvalTransform:
    """What is done to an image that is evaluated: resize and centre crop.

    Attributes:
        size: Side of the result.
        crop_pct: Side of the crop relative to the image's shorter side: that is resized to
            `floor(size / crop_pct)`.
        interpolation: How the image is resized.
        mean: Mean of every channel, pixels from 0 to 1.
        std: Standard deviation of every channel.

    Raises:
        ValueError: A value makes no sense.
    """

    size: int
    crop_pct: float
    interpolation: Interpolation
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        one_of(INTERPOLATIONS, interpolation=self.interpolation)
        if not 0 < self.crop_pct <= 1:
            raise ValueError(f"crop_pct={self.crop_pct} must be more than 0 and at most 1")

    def build(self, decoder: Decoder) -> Transform:
        """Return the transform of images decoded by `decoder`."""
        if decoder == "fast":
            side = floor(self.size / self.crop_pct)
            steps = [
                v2.Resize(side, v2.InterpolationMode(self.interpolation)),
                v2.CenterCrop(self.size),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(self.mean, self.std),
            ]
            return v2.Compose(steps)  # type: ignore[no-any-return]

        from timm.data import create_transform

        transform: Any = create_transform(
            input_size=self.size,
            crop_pct=self.crop_pct,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
        )
        return transform  # type: ignore[no-any-return]
