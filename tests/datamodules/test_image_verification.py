import os
import random
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules import ImageNetDataModule
from datamodules.image_folder import ImageFolder
from datamodules.image_shards import write_shards
from datamodules.image_verification import verify_images
from datamodules.verification import Verification


@pytest.fixture
def own_folders(image_folders: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(image_folders, tmp_path / "images"))


def image_at(root: Path, number: int) -> Path:
    return sorted(root.glob("train/*/*.jpg"))[number]


def only_problem(found: Verification) -> str:
    (problem,) = found.problems
    assert "\n" not in problem
    return problem


# Good sets


def test_small_imagenet_is_a_good_subset(shared_data: Path) -> None:
    root = shared_data / "imagenet-mini"
    found = verify_images(root)
    assert found.problems == []
    assert {split: sum(counts.values()) for split, counts in found.counts.items()} == {
        "train": 335,
        "val": 165,
    }
    assert found.counts["train"]["n02088364"] == 16
    assert found.facts["classes"] == "a subset, 20 of ImageNet-1k's 1,000, in their official order"
    assert found.fingerprint == ImageNetDataModule(str(root)).fingerprint


@pytest.mark.parametrize("workers", [0, 2])
def test_any_set_of_class_folders_is_good(workers: int, image_folders: Path) -> None:
    found = verify_images(image_folders, workers=workers)
    assert found.problems == []
    assert found.counts == {"train": {"a": 5, "b": 5, "c": 4}, "val": {"a": 3, "b": 2, "c": 2}}
    assert found.facts["classes"].startswith("none of ImageNet-1k's")
    assert found.fingerprint == ImageNetDataModule(str(image_folders)).fingerprint


def test_shards_are_checked_like_folders(own_folders: Path, tmp_path: Path) -> None:
    path = image_at(own_folders, 2)
    path.write_bytes(path.read_bytes()[:-200])
    for split in ("train", "val"):
        list(write_shards(ImageFolder(own_folders / split), tmp_path / "shards" / split, 2))
    found = verify_images(tmp_path / "shards")
    assert found.counts == verify_images(own_folders).counts
    problem = only_problem(found)
    assert f".tar/{path.parent.name}/{path.name} is broken (" in problem
    shard = sorted((tmp_path / "shards" / "val").glob("*.tar"))[0]
    shard.unlink()
    assert f"{shard} is missing or truncated" in verify_images(tmp_path / "shards").problems[0]


def test_how_far_it_is_can_be_shown(image_folders: Path) -> None:
    shown = []

    def track(steps: Iterable[Any], description: str, total: int) -> Iterable[Any]:
        taken = list(steps)
        shown.append((description, total, len(taken)))
        return taken

    verify_images(image_folders, track=track)
    assert shown == [("train: 14 images", 1, 1), ("val: 7 images", 1, 1)]


# Images


def damage_in_the_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(400) + content[middle + 400 :]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-2],
        lambda content: content[:-200],
        lambda content: content[:100],
        lambda content: b"",
        lambda content: b"<html>not found</html>",
        # Decoders make a grey area of it and do not complain.
        damage_in_the_middle,
        lambda content: random.Random(0).randbytes(len(content)),
    ],
)
def test_a_broken_image_is_listed(change: Any, workers: int, own_folders: Path) -> None:
    path = image_at(own_folders, 8)
    path.write_bytes(change(path.read_bytes()))
    problem = only_problem(verify_images(own_folders, workers=workers))
    assert problem.startswith(f"{path} is broken (")


def test_an_image_of_another_format_may_be_good_and_broken(own_folders: Path) -> None:
    path = image_at(own_folders, 3).with_suffix(".png")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    assert verify_images(own_folders).problems == []
    path.write_bytes(path.read_bytes()[:-500])
    assert only_problem(verify_images(own_folders)).startswith(f"{path} is broken (")


def test_every_broken_image_is_listed_in_order(own_folders: Path) -> None:
    paths = [image_at(own_folders, number) for number in (1, 4, 9)]
    paths[0].write_bytes(b"")
    paths[1].unlink()
    paths[1].symlink_to("gone.jpg")
    paths[2].write_bytes(paths[2].read_bytes()[:-200])
    problems = verify_images(own_folders, workers=1).problems
    assert [problem.split(" is broken")[0] for problem in problems] == list(map(str, paths))


def test_a_quick_check_reads_headers_only(own_folders: Path) -> None:
    cut, empty = image_at(own_folders, 1), image_at(own_folders, 2)
    cut.write_bytes(cut.read_bytes()[:-200])
    empty.write_bytes(b"")
    problem = only_problem(verify_images(own_folders, quick=True))
    assert problem.startswith(f"{empty} is broken (")


def test_standard_error_is_as_it_was(own_folders: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = image_at(own_folders, 0)
    path.write_bytes(damage_in_the_middle(path.read_bytes()))
    verify_images(own_folders)
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


# Layout and classes


def test_every_fault_of_the_layout_is_listed_and_images_are_checked_all_the_same(
    own_folders: Path,
) -> None:
    (own_folders / "train" / "d").mkdir()
    shutil.rmtree(own_folders / "val" / "c")
    path = image_at(own_folders, 0)
    path.write_bytes(b"")
    found = verify_images(own_folders)
    empty, classes, broken = found.problems
    assert "train: no image in 1 of 4 class folders (d)" in empty
    assert "val lacks 2 of the class folders of" in classes
    assert broken.startswith(f"{path} is broken (")
    assert found.fingerprint is None


def test_without_data_both_splits_are_missed(tmp_path: Path) -> None:
    train, val = verify_images(tmp_path / "nowhere").problems
    assert f"no folder train in {tmp_path / 'nowhere'};" in train
    assert f"no folder val in {tmp_path / 'nowhere'};" in val


def test_images_without_class_folders_are_no_data_set(own_folders: Path) -> None:
    shutil.rmtree(own_folders / "val")
    (own_folders / "val").mkdir()
    shutil.copy(image_at(own_folders, 0), own_folders / "val")
    problems = verify_images(own_folders).problems
    assert f"{own_folders / 'val'} has no class folders" in problems[0]


def named_as_in_imagenet(root: Path, *classes: str) -> None:
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / split / name / "1.jpg")


def test_a_folder_that_is_no_class_is_found_among_imagenets(tmp_path: Path) -> None:
    named_as_in_imagenet(tmp_path, "n01440764", "n02086240", "backup")
    found = verify_images(tmp_path)
    assert "folder backup among those of ImageNet's classes" in only_problem(found)


def test_classes_beyond_the_thousand_are_no_fault(tmp_path: Path) -> None:
    named_as_in_imagenet(tmp_path, "n01440764", "n00000001")
    found = verify_images(tmp_path)
    assert found.problems == []
    assert found.facts["classes"].endswith(", and 1 more (n00000001)")


def test_all_thousand_classes_must_have_all_images(tmp_path: Path) -> None:
    from timm.data import ImageNetInfo

    named_as_in_imagenet(tmp_path, *ImageNetInfo().label_names())
    found = verify_images(tmp_path, quick=True)
    assert found.facts["classes"] == "those of ImageNet-1k, in their official order"
    train, val = found.problems
    assert "train has 1,000 images, ImageNet-1k 1,281,167" in train
    assert "val has 1,000 images, ImageNet-1k 50,000" in val
