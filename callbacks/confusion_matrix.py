"""Which classes are taken for which: the confusion matrix of the test."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from callbacks.media import class_names, log_media, writing
from lit_models import ImageClassifier

FILE_NAME = "confusion_matrix"

# Above these numbers of classes cells are too small for numbers, and tables too large for W&B.
_LABELLED_CLASSES = 20
_TABULATED_CLASSES = 100


class _Counts(MulticlassConfusionMatrix):
    """torchmetrics' confusion matrix, counted without looking at a value: no GPU is waited for."""

    confmat: Tensor

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Count predicted classes `preds (N,)` of images of the classes `target (N,)`."""
        cells = target * self.confmat.shape[0] + preds
        self.confmat.view(-1).index_add_(0, cells, torch.ones_like(cells))


class ConfusionMatrix(L.Callback):
    """Counts the test's images by class and predicted class, each once on any number of devices.

    At the end of the test `confusion_matrix.csv` (a line for each true class) and
    `confusion_matrix.png` are written, and the picture is logged; up to 100 classes the counts are,
    too.

    Args:
        folder: Where the files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._counts: _Counts | None = None

    def on_test_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        if isinstance(pl_module, ImageClassifier):
            classes = int(pl_module.hparams["num_classes"])
            self._counts = _Counts(classes, validate_args=False).to(pl_module.device)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count one batch."""
        if self._counts is not None:
            self._counts.update(outputs["logits"].argmax(1), batch[1])

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Add up what all devices counted, and show it."""
        if self._counts is None:
            return
        counts = self._counts.compute()
        self._counts = None
        if trainer.is_global_zero:
            self._show(trainer, counts.cpu().numpy())

    def _show(self, trainer: L.Trainer, counts: np.ndarray) -> None:
        names = class_names(trainer, len(counts))
        picture = self.folder / f"{FILE_NAME}.png"
        with writing(FILE_NAME):
            _write_csv(counts, names, picture.with_suffix(".csv"))
            draw(counts, names, picture)
            log_media(trainer, lambda wandb: {"confusion_matrix": wandb.Image(str(picture))})
        if len(counts) <= _TABULATED_CLASSES:
            log_media(
                trainer, lambda wandb: {"confusion_matrix_counts": _chart(wandb, counts, names)}
            )


def draw(counts: np.ndarray, names: list[str], file: Path) -> None:
    """Draw a confusion matrix as PNG: colours are shares of the true class, numbers are counts.

    Args:
        counts: Numbers of images by class (rows) and predicted class (columns).
        names: Names of the classes.
        file: Where to write it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labelled = len(counts) <= _LABELLED_CLASSES
    side = max(4.0, 0.5 * len(counts)) if labelled else 8.0
    figure = Figure(figsize=(side + 1.5, side + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    right = np.trace(counts) / max(counts.sum(), 1)
    axes.set_title(f"{right:.2%} of {counts.sum():,} images right", loc="left")
    if labelled:
        long = max(map(len, names)) > 2
        axes.set_xticks(range(len(names)), names, rotation=90 if long else 0)
        axes.set_yticks(range(len(names)), names)
        for row, column in np.argwhere(counts):
            colour = "white" if shares[row, column] > 0.5 else "black"
            number = str(counts[row, column])
            axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(file, dpi=120, metadata={"Software": None})


def _write_csv(counts: np.ndarray, names: list[str], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["true class", *names])
        writer.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))


def _chart(wandb: Any, counts: np.ndarray, names: list[str]) -> Any:
    """W&B's own chart of a confusion matrix; its function for that wants every single image."""
    columns = ["Actual", "Predicted", "nPredictions"]
    cells = [
        [names[row], names[column], int(count)] for (row, column), count in np.ndenumerate(counts)
    ]
    return wandb.plot_table(
        "wandb/confusion_matrix/v1",
        wandb.Table(columns=columns, data=cells),
        {name: name for name in columns},
        {"title": "Confusion matrix of the test"},
    )
