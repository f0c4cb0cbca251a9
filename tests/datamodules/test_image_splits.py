from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.image_splits import open_split, root_of_splits, stratified_rows


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


# Layouts that are not understood


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "val/ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(FileNotFoundError, match=r"val has no class folders; every image .*prepare"):
        open_split(tmp_path, "val", 1)


def test_empty_class_folders_are_named(tmp_path: Path) -> None:
    for name in "abcdefgh":
        (tmp_path / "val" / name).mkdir(parents=True)
    write(tmp_path, "val/a/1.jpg", "val/b/1.txt")
    with pytest.raises(FileNotFoundError) as error:
        open_split(tmp_path, "val", 8)
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


def test_train_numbers_the_classes_of_a_val_that_has_fewer(tmp_path: Path) -> None:
    write(tmp_path, *(f"train/{name}/1.jpg" for name in "abcd"))
    write(tmp_path, "val/b/1.jpg", "val/d/1.jpg", "val/d/2.jpg")
    images = open_split(tmp_path, "val", 4, fewer_in_val=True)
    assert images.targets.tolist() == [1, 3, 3]
    assert [images.name(row) for row in range(3)] == ["b/1.jpg", "d/1.jpg", "d/2.jpg"]
    assert images.counts == {"a": 0, "b": 1, "c": 0, "d": 2}


def test_val_may_have_fewer_classes_but_no_others(tmp_path: Path) -> None:
    write(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg", "val/c/1.jpg")
    with pytest.raises(ValueError, match=r"train lacks 1 of the class folders of .*val .c."):
        open_split(tmp_path, "val", 2, fewer_in_val=True)


def test_fewer_classes_cannot_be_numbered_without_train(tmp_path: Path) -> None:
    write(tmp_path, "val/b/1.jpg")
    with pytest.raises(FileNotFoundError, match=r"no class folders in .*train; they number the"):
        open_split(tmp_path, "val", 2, fewer_in_val=True)


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
        assert abs(targets[held].eq(number).sum().item() - share) < 1


def test_a_holdout_is_drawn_and_always_the_same() -> None:
    targets = torch.arange(5).repeat_interleave(20)
    _, held = stratified_rows(targets, 10, seed=0)
    assert held.tolist() == [10, 19, 26, 37, 44, 53, 69, 71, 90, 93]
    assert held.tolist() != stratified_rows(targets, 10, seed=1)[1].tolist()
