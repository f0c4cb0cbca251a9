import os
from pathlib import Path

import pytest
from torchvision import datasets

from datamodules.image_folder import ImageFolder


def write(folder: Path, *names: str) -> Path:
    """Write files, each holding its name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode(errors="surrogateescape"))
    return folder


def paths(images: ImageFolder) -> list[str]:
    return [images.path(row) for row in range(len(images))]


# Listing


def test_images_and_classes_are_those_of_torchvision(shared_data: Path) -> None:
    for split in ("train", "val"):
        ours = ImageFolder(shared_data / "imagenet-mini" / split)
        theirs = datasets.ImageFolder(str(ours.folder))
        assert ours.classes == theirs.classes
        assert paths(ours) == [path for path, _ in theirs.samples]
        assert ours.targets.tolist() == theirs.targets


def test_images_may_lie_deeper_and_have_any_name(tmp_path: Path) -> None:
    names = ("b/images/1.JPEG", "b/0.png", "a/ä ö.jpg", "a/\udcff.jpg")
    images = ImageFolder(write(tmp_path, *names))
    assert images.classes == ["a", "b"]
    assert sorted(os.path.relpath(path, tmp_path) for path in paths(images)) == sorted(names)
    assert all(Path(path).read_bytes() for path in paths(images))
    assert images.targets.tolist() == [0, 0, 1, 1]


def test_other_and_hidden_files_are_no_images(tmp_path: Path) -> None:
    folder = write(tmp_path, "a/1.jpg", "a/boxes.txt", "a/._1.jpg", ".cache/2.jpg", "list.txt")
    images = ImageFolder(folder)
    assert images.classes == ["a"]
    assert paths(images) == [str(folder / "a" / "1.jpg")]


# What the whole is known by


def test_names_and_sizes_change_the_sum_and_contents_do_not(tmp_path: Path) -> None:
    def sha256(folder: Path) -> str:
        return ImageFolder(folder).sha256

    first = write(tmp_path / "first", "a/1.jpg", "b/2.jpg")
    second = write(tmp_path / "second", "b/2.jpg", "a/1.jpg")
    assert sha256(first) == sha256(second)
    (second / "a" / "1.jpg").write_text("A/1.JPG")
    assert sha256(first) == sha256(second)
    (second / "a" / "1.jpg").write_text("a/1.jpg.")
    longer = sha256(second)
    (second / "a" / "1.jpg").write_text("a/1.jpg")
    (second / "a" / "1.jpg").rename(second / "a" / "3.jpg")
    assert len({sha256(first), longer, sha256(second)}) == 3


def test_a_dangling_link_has_a_sum(tmp_path: Path) -> None:
    write(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "2.jpg").symlink_to(tmp_path / "gone")
    assert len(ImageFolder(tmp_path).sha256) == 64


def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, "a/1.jpg", "b/2.jpg")
    scan = os.scandir

    def refuse(path: str | Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError, match="b'"):
        ImageFolder(folder)
