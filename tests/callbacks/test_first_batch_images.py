import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from media_shelf import MediaShelf, NothingWaited, quiet_trainer
from PIL import Image

from callbacks.first_batch_images import FirstBatchImages, contact_sheet
from datamodules import DigitsDataModule
from lit_models import ImageClassifier


def classifier() -> ImageClassifier:
    return ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)


class Seen(L.Callback):
    """Keeps the first batch."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 0:
            self.images, self.targets = batch[0].clone(), batch[1].clone()


def test_the_images_of_the_first_batch_are_shown_as_they_were_before_normalisation(
    tmp_path: Path,
) -> None:
    seen = Seen()
    trainer = quiet_trainer(tmp_path, FirstBatchImages(tmp_path), seen, max_epochs=2)
    data = DigitsDataModule(batch_size=512, mean=[0.3], std=[0.2])
    trainer.fit(classifier(), datamodule=data)
    assert isinstance(trainer.logger, MediaShelf)
    step, pictures = trainer.logger.media["first_batch"]
    assert step == 1  # logged once, after the first step
    assert [picture._caption for picture in pictures] == [
        str(c) for c in seen.targets[:16].tolist()
    ]
    stored = data.sets()[0].images
    for picture in pictures:
        pixels = torch.tensor(np.array(picture.image))
        assert (stored[:, 0] == pixels).flatten(1).all(1).any()
    assert Image.open(tmp_path / "first_batch.png").size == (8 * 88, 2 * 102)


@pytest.mark.parametrize(("epoch", "batch_idx", "rank"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_nothing_is_shown_of_other_batches_and_by_other_processes(
    tmp_path: Path, epoch: int, batch_idx: int, rank: int
) -> None:
    trainer: Any = SimpleNamespace(current_epoch=epoch, is_global_zero=rank == 0, loggers=[])
    callback = FirstBatchImages(tmp_path)
    batch = (torch.zeros(2, 1, 8, 8), torch.tensor([1, 2]))
    callback.on_train_batch_start(trainer, classifier(), batch, batch_idx)
    callback.on_train_batch_end(trainer, classifier(), None, batch, batch_idx)
    assert not list(tmp_path.iterdir())


def test_showing_draws_no_random_number_and_waits_for_no_gpu(tmp_path: Path) -> None:
    shelf = MediaShelf()
    trainer: Any = SimpleNamespace(
        current_epoch=0, global_step=0, is_global_zero=True, loggers=[shelf], datamodule=None
    )
    callback, model = FirstBatchImages(tmp_path), classifier()
    batch = (torch.rand(20, 3, 8, 8), torch.arange(20))
    before = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    with NothingWaited() as watch:
        callback.on_train_batch_start(trainer, model, batch, 0)
    assert watch.operations
    batch[0].zero_()  # as mixup changes a batch where it lies
    callback.on_train_batch_end(trainer, model, None, batch, 0)
    after = (random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist())
    assert after == before
    _, pictures = shelf.media["first_batch"]
    assert len(pictures) == 16
    assert np.asarray(pictures[0].image).max() > 0


def test_classes_have_the_names_of_the_data(tmp_path: Path) -> None:
    shelf = MediaShelf()
    data = SimpleNamespace(classes=["cat", "dog"], train_transform=SimpleNamespace(mean=None))
    trainer: Any = SimpleNamespace(
        current_epoch=0, global_step=0, is_global_zero=True, loggers=[shelf], datamodule=data
    )
    callback, model = FirstBatchImages(tmp_path), classifier()
    soft = torch.tensor([[0.1, 0.9], [0.8, 0.2]])
    callback.on_train_batch_start(trainer, model, (torch.rand(2, 3, 8, 8), soft), 0)
    callback.on_train_batch_end(trainer, model, None, None, 0)
    assert [picture._caption for picture in shelf.media["first_batch"][1]] == ["dog", "cat"]


def test_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(
        current_epoch=0, global_step=0, is_global_zero=True, loggers=[], datamodule=None
    )
    callback, model = FirstBatchImages(tmp_path / "missing"), classifier()
    batch = (torch.rand(2, 1, 8, 8), torch.tensor([0, 1]))
    callback.on_train_batch_start(trainer, model, batch, 0)
    with pytest.warns(UserWarning, match="first_batch.png could not be written"):
        callback.on_train_batch_end(trainer, model, None, batch, 0)


def test_a_caption_is_cut_off_where_its_picture_ends() -> None:
    sheet = contact_sheet([Image.new("L", (96, 96))] * 9, ["a very long name of a class"] * 9)
    assert sheet.size == (8 * 100, 2 * 114)
    assert np.asarray(sheet.crop((98, 100, 102, 112))).min() == 255
