"""Shows what a detector finds: pictures of its detections beside what there is."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from matplotlib import get_data_path
from PIL import Image
from torch import Tensor
from torchvision.utils import (  # type: ignore[import-untyped]
    draw_bounding_boxes,
    draw_segmentation_masks,
)

from callbacks.media import class_names, log_media, writing
from lit_models import Detector

FOLDER = "detections"

_GAP = 8  # pixels between the two pictures
# Colours that are told apart on a photograph, one a class in turn.
_COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#46f0f0", "#f032e6", "#bcf60c")


class DetectionPictures(L.Callback):
    """Writes images of the test with the detections left and the true objects right, and logs them.

    They are the first images of the first device, as `detections/<image id>.png`. Crowds, which
    need not be found, are drawn without a name.

    Args:
        folder: Where the folder of pictures goes.
        count: Number of images.
        threshold: Detections with a lower score are not drawn.
    """

    def __init__(self, folder: Path, count: int = 8, threshold: float = 0.5) -> None:
        self.folder = folder / FOLDER
        self.count = count
        self.threshold = threshold
        self._pictures: dict[int, Image.Image] = {}

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin anew."""
        self._pictures = {}

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw the first images."""
        if not (trainer.is_global_zero and isinstance(pl_module, Detector)):
            return
        names = class_names(trainer, int(pl_module.hparams["num_classes"]))
        images, targets, _ = batch
        for image, target, found in zip(images, targets, outputs["detections"], strict=True):
            if len(self._pictures) == self.count:
                return
            sure = found["scores"] >= self.threshold
            found = {key: value[sure] for key, value in found.items()}
            self._pictures[int(target["image_id"])] = side_by_side(
                draw(image, found, names), draw(image, target, names)
            )

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write and log the pictures."""
        if not self._pictures:
            return
        pictures, self._pictures = self._pictures, {}
        with writing(FOLDER):
            self.folder.mkdir(parents=True, exist_ok=True)
            for number, picture in pictures.items():
                picture.save(self.folder / f"{number}.png")
        log_media(
            trainer,
            lambda wandb: {
                "detections": [
                    wandb.Image(picture, caption=f"{number}: found, and there")
                    for number, picture in pictures.items()
                ]
            },
        )


def draw(image: Tensor, objects: dict[str, Tensor], names: list[str]) -> Image.Image:
    """Draw objects with their classes, and their scores where they have any, into an image.

    Args:
        image: `(3, H, W)`, values from 0 to 1.
        objects: `boxes (N, 4)`, `labels (N,)` from 1, and maybe `scores (N,)`, `iscrowd (N,)` and
            `masks (N, H, W)`.
        names: Names of the classes.
    """
    objects = {key: value.detach().cpu() for key, value in objects.items()}
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    labels = objects["labels"].tolist()
    if labels:
        colours = [_COLOURS[label % len(_COLOURS)] for label in labels]
        captions = [names[label - 1] for label in labels]
        if "scores" in objects:
            scores = objects["scores"].tolist()
            captions = [f"{name} {score:.2f}" for name, score in zip(captions, scores, strict=True)]
        if "iscrowd" in objects:
            crowds = objects["iscrowd"].tolist()
            captions = ["" if c else n for n, c in zip(captions, crowds, strict=True)]
        if "masks" in objects:
            masks = objects["masks"].bool()
            pixels = draw_segmentation_masks(pixels, masks, alpha=0.4, colors=colours)
        pixels = draw_bounding_boxes(
            pixels,
            objects["boxes"],
            captions,
            colours,
            width=2,
            font=str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")),
            font_size=12,
            label_colors=["black"] * len(labels),
            fill_labels=True,
        )
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one size in one, side by side."""
    both = Image.new("RGB", (left.width + _GAP + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + _GAP, 0))
    return both
