import multiprocessing
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datamodules import Shuffle
from datamodules.image_decoding import BrokenImage
from datamodules.image_folder import ImageFolder
from datamodules.image_loader import (
    BatchKey,
    ImageBatches,
    ImageLoader,
    share_of_cores,
    worker_options,
)
from datamodules.image_transforms import TrainTransform
from datamodules.position import Position
from datamodules.sampling import BatchPlan

CLASSIC = TrainTransform(
    16,
    "random",
    (0.08, 1.0),
    (3 / 4, 4 / 3),
    True,
    0.0,
    0.1,
    "rand-m9-mstd0.5-inc1",
    0.25,
    "pixel",
    1,
    (0.5, 0.5, 0.5),
    (0.2, 0.2, 0.2),
)


class Decoded:
    """Instead of a transform: the pixels as they are."""

    def __call__(self, image: Any) -> Tensor:
        return (
            image if isinstance(image, Tensor) else torch.tensor(np.array(image)).permute(2, 0, 1)
        )


def loader(
    root: Path,
    *,
    seed: int = 3,
    epoch: int = 0,
    done: int = 0,
    position: Position | None = None,
    workers: int = 0,
    found: list[BrokenImage] | None = None,
    **plan: Any,
) -> ImageLoader:
    folder = ImageFolder(root / "train")
    return ImageLoader(
        ImageBatches(folder, "pil", CLASSIC.build("pil"), seed),
        BatchPlan(torch.arange(len(folder)), **{"batch_size": 4, "shuffle": Shuffle(1), **plan}),
        on_broken=([] if found is None else found).append,
        position=position or (lambda: (epoch, done)),
        **worker_options(workers, 2, False, True),
    )


def pixels(batches: ImageLoader) -> list[tuple[int, bytes]]:
    return [
        (row, image.numpy().tobytes())
        for images, _, rows in batches
        for row, image in zip(rows.tolist(), images, strict=True)
    ]


# What the random transforms depend on


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(workers: int, image_folders: Path) -> None:
    alone = loader(image_folders, epoch=4)
    shared = loader(image_folders, epoch=4, workers=workers)
    assert pixels(shared) == pixels(alone)
    assert pixels(shared) == pixels(alone)  # workers that persist draw the same


def test_batch_size_and_devices_change_no_image(image_folders: Path) -> None:
    alone = dict(pixels(loader(image_folders)))
    assert len(alone) == 14
    for rank in range(3):
        options = {"rank": rank, "world_size": 3, "batch_size": 2}
        for row, image in pixels(loader(image_folders, **options)):
            assert alone[row] == image


@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_epoch_goes_on_with_the_same_images(workers: int, image_folders: Path) -> None:
    whole = pixels(loader(image_folders, epoch=2))
    rest = pixels(loader(image_folders, epoch=2, done=2, workers=workers))
    assert rest == whole[8:]


def test_seed_and_epoch_change_every_image(image_folders: Path) -> None:
    found = [
        dict(pixels(loader(image_folders, seed=seed, epoch=epoch)))
        for seed in range(2)
        for epoch in range(2)
    ]
    for row in range(14):
        assert len({images[row] for images in found}) == 4


def test_repetitions_of_an_image_are_different_versions(image_folders: Path) -> None:
    found = pixels(loader(image_folders, repeats=3))
    assert len(found) == 14
    assert len({row for row, _ in found}) == 5
    assert len({image for _, image in found}) == 14


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generators_are_left_alone(workers: int, image_folders: Path) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    list(loader(image_folders, workers=workers))
    drawn = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())


def test_an_iterator_asks_for_its_position_when_the_first_batch_is_wanted(
    image_folders: Path,
) -> None:
    asked = []
    batches = loader(image_folders, position=lambda: asked.append(1) or (6, 1))
    iterator = iter(batches)
    assert not asked
    _, _, rows = next(iterator)
    assert rows.tolist() == Shuffle(1).order(14, 6)[4:8].tolist()


def test_a_closed_loader_has_no_workers_and_can_be_used_again(image_folders: Path) -> None:
    before = set(multiprocessing.active_children())
    batches = loader(image_folders, workers=2)
    whole = pixels(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    assert not set(multiprocessing.active_children()) - before
    assert pixels(batches) == whole
    batches.close()


def test_an_epoch_that_was_left_early_does_not_disturb_the_next(image_folders: Path) -> None:
    batches = loader(image_folders, workers=2)
    whole = pixels(batches)
    for _ in range(3):
        next(iter(batches))
    assert pixels(batches) == whole


def test_a_batch_holds_images_classes_and_rows(image_folders: Path) -> None:
    images, targets, rows = next(iter(loader(image_folders)))
    assert images.shape == (4, 3, 16, 16)
    assert (images.dtype, targets.dtype, rows.dtype) == (torch.float32, torch.int64, torch.int64)
    assert torch.equal(targets, ImageFolder(image_folders / "train").targets[rows])


def key_of(count: int) -> BatchKey:
    return BatchKey(0, torch.arange(count), torch.zeros(count, dtype=torch.int64))


# Broken files


def break_some(root: Path) -> dict[int, str]:
    """Break four of the images in train; returns row and path of each."""
    folder = ImageFolder(root / "train")
    broken = {row: folder.path(row) for row in (1, 5, 6, 13)}
    one, two, three, four = map(Path, broken.values())
    one.write_bytes(one.read_bytes()[:-200])
    two.write_bytes(b"")
    three.write_bytes(b"<html>not found</html>")
    four.unlink()
    four.symlink_to(root / "gone.jpg")
    return broken


@pytest.fixture
def broken_folders(image_folders: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(image_folders, tmp_path / "images"))


@pytest.mark.parametrize("decoder", ["pil", "fast"])
def test_broken_files_are_named_and_left_out(decoder: Any, broken_folders: Path) -> None:
    expected = break_some(broken_folders)
    folder = ImageFolder(broken_folders / "train")
    batch = ImageBatches(folder, decoder, Decoded())[key_of(14)]
    assert [image.path for image in batch.broken] == list(expected.values())
    assert sorted({*batch.rows.tolist(), *expected}) == list(range(14))
    assert len(batch.images) == len(batch.targets) == len(batch.rows) == 10
    for image in batch.broken:
        assert image.reason
        assert "\n" not in image.reason
        assert image.path not in image.reason


@pytest.mark.parametrize("workers", [0, 2])
def test_the_other_images_stay_in_their_batches(
    workers: int, image_folders: Path, broken_folders: Path
) -> None:
    expected = break_some(broken_folders)
    whole = [row for row, _ in pixels(loader(image_folders, seed=3))]
    found: list[BrokenImage] = []
    rest = pixels(loader(broken_folders, seed=3, workers=workers, found=found))
    assert [row for row, _ in rest] == [row for row in whole if row not in expected]
    assert dict(rest).items() <= dict(pixels(loader(image_folders, seed=3))).items()
    assert sorted(image.path for image in found) == sorted(expected.values())


def test_a_batch_of_broken_images_ends_the_run(broken_folders: Path) -> None:
    expected = break_some(broken_folders)
    with pytest.raises(ValueError, match="none of the 1 images of a batch can be read") as error:
        list(loader(broken_folders, batch_size=1, shuffle=None))
    assert expected[1] in str(error.value)


def test_lack_of_memory_is_no_broken_image(
    image_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        list(loader(image_folders))


# Workers


def test_the_cores_are_shared_out_to_the_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert [share_of_cores(devices) for devices in (1, 2, 5, 12, 64)] == [12, 6, 2, 1, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(128)), raising=False)
    assert share_of_cores(2) == 16


def test_without_workers_there_is_nothing_to_keep_ready() -> None:
    assert worker_options(0, 2, True, True).keys() == {"num_workers", "pin_memory"}
    options = worker_options(3, 4, False, True)
    assert callable(options.pop("worker_init_fn"))
    assert options == {
        "num_workers": 3,
        "pin_memory": False,
        "prefetch_factor": 4,
        "persistent_workers": True,
    }
