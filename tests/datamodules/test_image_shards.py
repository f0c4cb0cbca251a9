import random
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import ImageNetDataModule
from datamodules.image_files import ImageFiles
from datamodules.image_folder import ImageFolder
from datamodules.image_shards import INDEX, ImageShards, has_shards, write_shards


def shards_of(folders: Path, target: Path, count: int) -> Path:
    for split in ("train", "val"):
        list(write_shards(ImageFolder(folders / split), target / split, count))
    return target


@pytest.fixture(scope="module")
def sharded(image_folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `image_folders` in three shards."""
    return shards_of(image_folders, tmp_path_factory.mktemp("shards"), 3)


@pytest.fixture
def own_shards(image_folders: Path, tmp_path: Path) -> Path:
    """Shards that a test may change."""
    return shards_of(image_folders, tmp_path / "shards", 3)


def contents(images: ImageFiles) -> list[tuple[str, int, bytes]]:
    found = []
    for row in range(len(images)):
        with images.open(row) as file:
            content = file.read()
        assert len(content) == images.size(row)
        found.append((images.name(row), int(images.targets[row]), content))
    return found


def small(root: Path, **options: Any) -> ImageNetDataModule:
    defaults = {"batch_size": 4, "input_size": 16, "num_workers": 0, "seed": 5}
    return ImageNetDataModule(str(root), **{**defaults, **options})


def batches(loader: Any) -> list[tuple[bytes, list[int], list[int]]]:
    return [(x.numpy().tobytes(), y.tolist(), rows.tolist()) for x, y, rows in loader]


# The same as in class folders


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_row_is_the_image_that_it_is_in_class_folders(
    split: str, image_folders: Path, sharded: Path
) -> None:
    folder, shards = ImageFolder(image_folders / split), ImageShards(sharded / split)
    assert contents(shards) == contents(folder)
    assert shards.classes == folder.classes
    assert shards.counts == folder.counts
    assert shards.sha256 == folder.sha256


def test_real_images_are_the_same(shared_data: Path, tmp_path: Path) -> None:
    folder = ImageFolder(shared_data / "imagenet-mini" / "val")
    list(write_shards(folder, tmp_path / "val", 4))
    assert contents(ImageShards(tmp_path / "val")) == contents(folder)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_is_the_same_run(workers: int, image_folders: Path, sharded: Path) -> None:
    options = {"holdout": 4, "repeats": 2, "erase_prob": 0.5}
    before, after = small(image_folders, **options), small(sharded, num_workers=workers, **options)
    assert after.num_classes == before.num_classes == 3
    assert after.fingerprint == before.fingerprint
    for name in ("train", "val", "test"):
        loaders = [getattr(data, f"{name}_dataloader")() for data in (before, after)]
        first, second = map(batches, loaders)
        assert first == second, name
    after.teardown()


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_image_is_evaluated_once_on_any_number_of_devices(
    world_size: int, sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows_of(rank: int) -> list[int]:
        share = {"rank": rank, "world_size": world_size}
        monkeypatch.setattr("datamodules.file_data.share_of_device", lambda _: share)
        return [int(row) for _, _, rows in small(sharded).test_dataloader() for row in rows]

    seen = [row for rank in range(world_size) for row in rows_of(rank)]
    assert sorted(seen) == list(range(7))


def test_an_epoch_goes_on_in_its_middle(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batches(small(sharded).train_dataloader())
    monkeypatch.setattr("datamodules.image_data.position_in_training", lambda _: (0, 2))
    assert batches(small(sharded).train_dataloader()) == whole[2:]


# The format


def test_shards_are_pairs_of_image_and_class_in_random_order(
    image_folders: Path, sharded: Path
) -> None:
    folder = ImageFolder(image_folders / "train")
    order: list[int] = []
    for path in sorted((sharded / "train").glob("train-*.tar")):
        with tarfile.open(path) as archive:
            members = archive.getmembers()
            for image, target in zip(members[::2], members[1::2], strict=True):
                row, ending = image.name.split(".")
                assert (ending, target.name) == ("jpg", f"{row}.cls")
                file = archive.extractfile(target)
                assert file is not None
                assert int(file.read()) == folder.targets[int(row)]
                order.append(int(row))
    assert sorted(order) == list(range(14))
    assert order != sorted(order)


def test_webdataset_reads_them(sharded: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed")
    pattern = str(sharded / "train" / "train-{000000..000002}.tar")
    pairs = webdataset.WebDataset(pattern, shardshuffle=False).decode("pil").to_tuple("jpg", "cls")
    found = Counter(target for _, target in pairs)
    assert found == Counter(ImageShards(sharded / "train").targets.tolist())


def test_names_of_any_kind_survive(tmp_path: Path) -> None:
    names = ["a.b/1.2.JPEG", "a.b/deep/1.png", "ä ö/\udcff.jpg", "z/" + "n" * 150 + ".jpg"]
    for number, name in enumerate(names):
        path = tmp_path / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([number]))
    folder = ImageFolder(tmp_path / "train")
    list(write_shards(folder, tmp_path / "shards", 2))
    assert contents(ImageShards(tmp_path / "shards")) == contents(folder)


# Writing


def test_writing_is_resumed_and_repeated_without_writing_anything_twice(
    image_folders: Path, tmp_path: Path
) -> None:
    folder = ImageFolder(image_folders / "train")
    writing = write_shards(folder, tmp_path / "train", 3)
    first = next(writing)
    writing.close()
    assert not has_shards(tmp_path / "train")
    written = first.stat().st_mtime_ns
    list(write_shards(folder, tmp_path / "train", 3))
    assert first.stat().st_mtime_ns == written
    assert contents(ImageShards(tmp_path / "train")) == contents(folder)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.tar")}
    list(write_shards(folder, tmp_path / "train", 3))
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "train").glob("*.tar")}


def test_a_shard_that_is_not_whole_is_written_again(image_folders: Path, own_shards: Path) -> None:
    folder = ImageFolder(image_folders / "train")
    path = own_shards / "train" / "train-000001.tar"
    whole = path.read_bytes()
    path.write_bytes(whole[:1500])
    list(write_shards(folder, own_shards / "train", 3))
    assert path.read_bytes() == whole


def test_a_failure_leaves_no_half_shard(
    image_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(OSError, match="No space"):
        list(write_shards(ImageFolder(image_folders / "train"), tmp_path / "train", 3))
    assert list((tmp_path / "train").iterdir()) == []


def test_shards_of_another_number_are_not_mixed(image_folders: Path, own_shards: Path) -> None:
    folder = ImageFolder(image_folders / "train")
    with pytest.raises(FileExistsError, match=r"train-000002.tar is none of the 2 shards"):
        list(write_shards(folder, own_shards / "train", 2))
    assert contents(ImageShards(own_shards / "train")) == contents(folder)


@pytest.mark.parametrize("count", [0, 15])
def test_a_number_of_shards_without_sense_is_refused(
    count: int, image_folders: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"14 images in .* give no {count} shards"):
        list(write_shards(ImageFolder(image_folders / "train"), tmp_path, count))


# Shards that are not whole


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_missing_or_truncated_shard_is_named_at_once(damage: str, own_shards: Path) -> None:
    path = own_shards / "val" / "val-000002.tar"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{path} is missing or truncated; .*--shards") as error:
        small(own_shards).setup("test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 half"])
def test_an_index_that_is_not_whole_is_named(content: bytes, own_shards: Path) -> None:
    (own_shards / "val" / INDEX).write_bytes(content)
    with pytest.raises(ValueError, match=f"{INDEX} is not whole; .*--shards") as error:
        ImageShards(own_shards / "val")
    assert "\n" not in str(error.value)


def test_a_broken_image_is_named_with_its_shard(own_shards: Path) -> None:
    images = ImageShards(own_shards / "train")
    row = 5
    shard, offset, size = images._places[row].tolist()
    path = own_shards / "train" / f"train-{shard:06}.tar"
    content = bytearray(path.read_bytes())
    content[offset : offset + size] = random.Random(0).randbytes(size)
    path.write_bytes(content)
    data = small(own_shards, on_broken_image="skip")
    with pytest.warns(UserWarning, match=f"{path}/{images.name(row)} cannot be read"):
        seen = [int(row) for _, _, rows in data.train_dataloader() for row in rows]
    assert sorted({*seen, row}) == list(range(14))
    assert row not in seen


def test_classes_of_both_splits_are_held_against_each_other(
    image_folders: Path, own_shards: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for name in ("a", "b"):
        (other / name).mkdir(parents=True)
        (other / name / "1.jpg").write_bytes(b"")
    for path in (own_shards / "val").iterdir():
        path.unlink()
    list(write_shards(ImageFolder(other), own_shards / "val", 1))
    with pytest.raises(ValueError, match=r"val lacks 1 of the class folders of .*train \(c\)"):
        small(own_shards).setup("test")


def test_targets_are_what_losses_take(sharded: Path) -> None:
    targets: Tensor = ImageShards(sharded / "train").targets
    assert targets.dtype == torch.int64
    assert targets.tolist() == sorted(targets.tolist())
