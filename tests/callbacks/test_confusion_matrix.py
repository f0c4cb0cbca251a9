import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from media_shelf import MediaShelf, NothingWaited, quiet_trainer
from PIL import Image
from torchmetrics.classification import MulticlassConfusionMatrix

from callbacks.confusion_matrix import ConfusionMatrix, _Counts, draw
from datamodules import DigitsDataModule
from lit_models import ImageClassifier


def read(file: Path) -> tuple[list[str], list[list[str]]]:
    with file.open(newline="") as lines:
        header, *rows = csv.reader(lines)
    return header, rows


def test_every_image_is_counted_once_and_the_matrix_is_shown(tmp_path: Path) -> None:
    trainer = quiet_trainer(tmp_path, ConfusionMatrix(tmp_path))
    model = ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    data = DigitsDataModule(batch_size=50)
    (metrics,) = trainer.test(model, datamodule=data, verbose=False)
    header, rows = read(tmp_path / "confusion_matrix.csv")
    assert header == ["true class", *"0123456789"]
    assert [row[0] for row in rows] == list("0123456789")
    counts = np.array([row[1:] for row in rows], dtype=int)
    assert counts.sum(1).tolist() == data.sets()[1].targets.bincount().tolist()
    assert np.trace(counts) / 360 == pytest.approx(metrics["test/acc1"])
    assert Image.open(tmp_path / "confusion_matrix.png").size[0] > 400
    assert isinstance(trainer.logger, MediaShelf)
    assert set(trainer.logger.media) == {"confusion_matrix", "confusion_matrix_counts"}
    table = trainer.logger.media["confusion_matrix_counts"][1].table
    assert {(row[0], row[1]): row[2] for row in table.data} == {
        (str(i), str(j)): counts[i, j] for i in range(10) for j in range(10)
    }


def test_counting_is_torchmetrics_and_waits_for_no_gpu() -> None:
    ours, theirs = _Counts(7, validate_args=False), MulticlassConfusionMatrix(7)
    for size in (13, 1, 40):
        predicted, target = torch.randint(7, (2, size))
        with NothingWaited() as watch:
            ours.update(predicted, target)
        assert watch.operations
        theirs.update(predicted, target)
    assert torch.equal(ours.compute(), theirs.compute())


def test_many_classes_are_drawn_without_labels(tmp_path: Path) -> None:
    counts = np.eye(300, dtype=int)
    counts[3] = 0  # a class without images
    draw(counts, [str(number) for number in range(300)], tmp_path / "many.png")
    assert Image.open(tmp_path / "many.png").size == (1140, 1020)
