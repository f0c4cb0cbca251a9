import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import datasets

from datamodules.image_folder import ImageFolder, open_split, root_of_splits, stratified_rows


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


# Layouts that are not understood


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=f"{tmp_path} has no class folders; every image"):
        ImageFolder(write(tmp_path, "ILSVRC2012_val_00000001.JPEG"))


def test_empty_class_folders_are_named(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / name).mkdir()
    write(tmp_path, "a/1.jpg", "b/1.txt")
    with pytest.raises(FileNotFoundError) as error:
        ImageFolder(tmp_path)
    assert "no image in 7 of 8 class folders (b, c, d, e, f, ...)" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_split_is_named_with_the_remedies(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.jpg")
    with pytest.raises(FileNotFoundError) as error:
        open_split(tmp_path, "val", 1)
    message = str(error.value)
    assert "\n" not in message
    for part in (f"no folder val in {tmp_path};", "--data.init_args.root", "CONVSUITE_DATA"):
        assert part in message


@pytest.mark.parametrize(
    ("train", "val", "fault"),
    [
        ("abc", "ab", "val lacks 1 of the class folders of .*train .c."),
        ("ab", "abcd", "train lacks 2 of the class folders of .*val .c, d."),
        ("ab", "ac", "train lacks 1 of the class folders of .*val .c."),
    ],
)
def test_splits_with_different_classes_are_refused(
    train: str, val: str, fault: str, tmp_path: Path
) -> None:
    write(tmp_path, *(f"train/{name}/1.jpg" for name in train))
    write(tmp_path, *(f"val/{name}/1.jpg" for name in val))
    for split in ("train", "val"):
        with pytest.raises(ValueError, match=fault) as error:
            open_split(tmp_path, split, 2)
        assert "\n" not in str(error.value)


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.jpg", "val/a/1.jpg")
    with pytest.raises(ValueError, match=r"num_classes=7, but .*val has 1 class folders"):
        open_split(tmp_path, "val", 7)
    assert len(open_split(tmp_path, "val", 1)) == 1


def test_the_splits_may_lie_in_a_folder_imagenet(tmp_path: Path) -> None:
    assert root_of_splits(tmp_path) == tmp_path
    write(tmp_path, "imagenet/val/a/1.jpg")
    assert root_of_splits(tmp_path) == tmp_path / "imagenet"
    assert root_of_splits(tmp_path / "imagenet") == tmp_path / "imagenet"


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


# Holdout


@given(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=8), data=st.data())
@settings(deadline=None, max_examples=80)
def test_a_holdout_has_its_share_of_every_class(sizes: list[int], data: st.DataObject) -> None:
    targets = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    total = len(targets)
    count = data.draw(st.integers(0, total))
    rest, held = stratified_rows(targets, count, seed=0)
    assert sorted(rest.tolist() + held.tolist()) == list(range(total))
    assert rest.tolist() == sorted(rest.tolist())
    assert len(held) == count
    for number, size in enumerate(sizes):
        share = count * size / total
        assert abs(targets[held].eq(number).sum().item() - share) <= 1


def test_a_holdout_is_drawn_and_always_the_same() -> None:
    targets = torch.arange(5).repeat_interleave(20)
    _, held = stratified_rows(targets, 10, seed=0)
    assert held.tolist() == [10, 19, 26, 37, 44, 53, 69, 71, 90, 93]
    assert held.tolist() != stratified_rows(targets, 10, seed=1)[1].tolist()
