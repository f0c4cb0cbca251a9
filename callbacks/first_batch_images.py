"""Shows what a network is trained on: the images of the first batch, with their classes."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from callbacks.media import class_names, log_media, writing
from lit_models import ImageClassifier

FILE_NAME = "first_batch.png"

_SHOWN = 16
_COLUMNS = 8
_SIDE = 96  # small images are enlarged to about as many pixels
_CAPTION = 14  # height in pixels


class FirstBatchImages(L.Callback):
    """Writes the first images of the first training batch as `first_batch.png`, and logs them.

    They are as the data module gives them, augmented, with the normalisation undone; mixup and
    CutMix come later. The first device's images are shown. On a GPU they are copied beside the
    training, which does not wait for them.

    Args:
        folder: Where the file goes.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._pending: tuple[Tensor, Tensor] | None = None
        self._copied: Any = None  # an event of the GPU

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to copy the first images of the run's first batch."""
        first = batch_idx == 0 and trainer.current_epoch == 0
        if not (first and trainer.is_global_zero and isinstance(pl_module, ImageClassifier)):
            return
        images, targets = batch[0][:_SHOWN], batch[1][:_SHOWN]
        self._pending = (_copy(images), _copy(targets))
        if images.is_cuda:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._copied.record()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Show the images once they are there."""
        if self._pending is not None and (self._copied is None or self._copied.query()):
            self._show(trainer, *self._pending)
            self._pending = self._copied = None

    def _show(self, trainer: L.Trainer, images: Tensor, targets: Tensor) -> None:
        pictures = [Image.fromarray(pixels) for pixels in _pixels(images, trainer)]
        # A target is a class, or a probability for each.
        classes = targets.argmax(1) if targets.ndim > 1 else targets
        names = class_names(trainer, int(classes.max()) + 1)
        captions = [names[number] for number in classes.tolist()]
        with writing(FILE_NAME):
            contact_sheet(pictures, captions).save(self.path)
        log_media(
            trainer,
            lambda wandb: {
                "first_batch": [
                    wandb.Image(picture, caption=caption)
                    for picture, caption in zip(pictures, captions, strict=True)
                ]
            },
        )


def contact_sheet(pictures: list[Image.Image], captions: list[str]) -> Image.Image:
    """Put pictures of one size side by side, each above its caption.

    Args:
        pictures: At least one picture; small ones are enlarged, pixel by pixel.
        captions: A caption for each, cut off where it is too long.
    """
    factor = max(1, _SIDE // pictures[0].height)
    width, height = (side * factor for side in pictures[0].size)
    rows = -(-len(pictures) // _COLUMNS)
    columns = min(_COLUMNS, len(pictures))
    sheet = Image.new("RGB", (columns * (width + 4), rows * (height + _CAPTION + 4)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for place, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(place, _COLUMNS)
        x, y = column * (width + 4) + 2, row * (height + _CAPTION + 4) + 2
        sheet.paste(picture.resize((width, height), Image.Resampling.NEAREST), (x, y))
        while draw.textlength(caption, font) > width:
            caption = caption[:-1]
        draw.text((x, y + height), caption, fill="black", font=font)
    return sheet


def _copy(tensor: Tensor) -> Tensor:
    # On the CPU a copy, because mixup changes the batch where it lies; from a GPU into page-locked
    # memory, without waiting.
    return tensor.detach().to("cpu", non_blocking=tensor.is_cuda, copy=True)


def _pixels(images: Tensor, trainer: L.Trainer) -> Any:
    """Pixels of normalised `images (N, C, H, W)`, uint8 (N, H, W) or (N, H, W, 3)."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    normalised_by = getattr(datamodule, "train_transform", datamodule)
    mean, std = (getattr(normalised_by, name, None) for name in ("mean", "std"))
    pixels = images.float()
    if mean is not None and std is not None:
        pixels = pixels * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    pixels = (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    return (pixels[:, 0] if pixels.shape[1] != 3 else pixels.permute(0, 2, 3, 1)).numpy()
