"""ImageNet, or any other data set of image files in class folders."""

from typing import Any

from datamodules.image_data import ImageFilesDataModule
from datamodules.image_transforms import (
    EraseMode,
    EvalTransform,
    Interpolation,
    TrainInterpolation,
    TrainTransform,
)
from datamodules.options import at_least


class ImageNetDataModule(ImageFilesDataModule):
    """Images in `train/<class>/` and `val/<class>/`: ImageNet, or a set of any other classes.

    The images may lie in shards instead, as `data prepare imagenet --shards` writes them.

    Args:
        root: Folder with train and val, or with a folder imagenet that has them; None for the
            environment variable CONVSUITE_DATA, else data.
        input_size: Side of training images in pixels.
        eval_size: Side of evaluated images in pixels; None for input_size.
        crop_pct: Side of the evaluated centre crop, relative to the shorter side of the image.
        interpolation: How evaluated images are resized.
        train_interpolation: How training images are resized, "random" for a choice at every image;
            None for `interpolation`.
        scale: Least and greatest area of the training crop, relative to the image.
        ratio: Least and greatest ratio of the training crop's width to its height.
        flip: Mirror training images left and right with probability 1/2.
        color_jitter: Greatest relative change of brightness, contrast and saturation.
        lighting: Standard deviation of PCA lighting noise; 0.1 in ResNeXt's and GluonCV's recipes.
        auto_augment: Policy as timm writes it, for example rand-m9-mstd0.5-inc1; None for none.
        erase_prob: Probability that a rectangle of a training image is erased.
        erase_mode: What it holds then: zeros, one random colour or random pixels.
        erase_count: Greatest number of rectangles.
        mean: Mean of every channel of pixels from 0 to 1, subtracted.
        std: Standard deviation of every channel, divided by.
        **options: Options of `ImageFilesDataModule`.

    Raises:
        ValueError: An option has a value that makes no sense.
    """

    name = "ImageNet"

    def __init__(
        self,
        root: str | None = None,
        input_size: int = 224,
        eval_size: int | None = None,
        crop_pct: float = 0.875,
        interpolation: Interpolation = "bilinear",
        train_interpolation: TrainInterpolation | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: bool = True,
        color_jitter: float = 0.0,
        lighting: float = 0.0,
        auto_augment: str | None = None,
        erase_prob: float = 0.0,
        erase_mode: EraseMode = "pixel",
        erase_count: int = 1,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        std: tuple[float, float, float] = (0.229, 0.224, 0.225),
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        at_least(1, input_size=input_size, eval_size=eval_size)
        self.input_size = (3, input_size, input_size)
        self.train_transform = TrainTransform(
            size=input_size,
            interpolation=train_interpolation or interpolation,
            scale=scale,
            ratio=ratio,
            flip=flip,
            color_jitter=color_jitter,
            lighting=lighting,
            auto_augment=auto_augment,
            erase_prob=erase_prob,
            erase_mode=erase_mode,
            erase_count=erase_count,
            mean=mean,
            std=std,
        )
        self.eval_transform = EvalTransform(
            size=eval_size or input_size,
            crop_pct=crop_pct,
            interpolation=interpolation,
            mean=mean,
            std=std,
        )
        if self.decode == "fast":
            self.train_transform.check_fast()
