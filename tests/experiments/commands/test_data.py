import errno
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import MNIST

from datamodules import ImageNetDataModule
from experiments.__main__ import main

WNIDS = ("n01440764", "n02086240")


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "jpeg")
    return written.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@pytest.fixture
def archives(tmp_path: Path) -> list[Path]:
    """Archives of train (six images) and val (four), and a text with the classes of val."""
    classes = {
        f"{wnid}.tar": tar({f"{wnid}_{row}.JPEG": jpeg(row) for row in range(3)}) for wnid in WNIDS
    }
    val = {f"ILSVRC2012_val_{row:08}.JPEG": jpeg(10 + row) for row in range(4)}
    contents = [tar(classes), tar(val), "\n".join(2 * WNIDS).encode()]
    paths = [tmp_path / name for name in ("train.tar", "val.tar", "labels.txt")]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture
def root(archives: list[Path], tmp_path: Path) -> Path:
    """Folder that the archives were unpacked to."""
    assert prepare(tmp_path / "imagenet", archives) == 0
    return tmp_path / "imagenet"


def prepare(root: Path, files: list[Path], *options: str, name: str = "imagenet") -> int:
    given = ["--from", *map(str, files)] if files else []
    return main(["data", "prepare", name, "--root", str(root), *given, *options])


def verify(root: Path, *options: str, name: str = "imagenet") -> int:
    return main(["data", "verify", name, "--root", str(root), *options])


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# Verifying


def test_a_good_set_is_summed_up(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(root) == 0
    first, train, val, classes, known, last = capsys.readouterr().out.splitlines()
    assert first == f"ImageNet in {root}"
    assert train.endswith(" 6 images in 2 classes, 3 in each")
    assert val.endswith(" 4 images in 2 classes, 2 in each")
    assert "a subset, 2 of ImageNet-1k's 1,000, in their official order" in classes
    subject, _, record = known.strip().partition(" ")
    assert (subject, json.loads(record)) == (
        "fingerprint",
        ImageNetDataModule(str(root)).fingerprint,
    )
    assert last == "good"


def test_every_problem_is_a_line_and_the_exit_status_says_so(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = root / "train" / WNIDS[0] / f"{WNIDS[0]}_1.JPEG"
    cut.write_bytes(cut.read_bytes()[:-100])
    empty = root / "val" / WNIDS[1]
    for path in empty.iterdir():
        path.unlink()
    assert verify(root, "--workers", "2") == 1
    captured = capsys.readouterr()
    *_, one, two, last = captured.out.splitlines()
    assert one.startswith(f"wrong: {root / 'val'}: no image in 1 of 2 class folders ({WNIDS[1]})")
    assert two.startswith(f"wrong: {cut} is broken (image file is truncated")
    assert last == "2 problems"
    assert captured.err == ""
    assert verify(root, "--quick", "--workers", "0") == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 problem"


def test_a_name_that_is_no_text_can_be_told(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (root / "val" / WNIDS[0] / "\udcff.jpg").write_bytes(b"")
    assert verify(root) == 1
    assert f"{WNIDS[0]}/\ufffd.jpg is broken" in capfd.readouterr().out


def test_a_program_can_read_it(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(root, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["good"]
    assert found["counts"]["val"] == dict.fromkeys(WNIDS, 2)
    assert found["fingerprint"] == ImageNetDataModule(str(root)).fingerprint
    assert verify(root / "nowhere", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["good"]
    assert len(found["problems"]) == 2


def test_mnist_is_good(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(shared_data, name="mnist") == 0
    out = capsys.readouterr().out
    assert "60,000 images in 10 classes, 5,421 to 6,742 in each" in out
    assert out.endswith("good\n")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_missing_files_are_a_problem_and_nothing_is_fetched(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(tmp_path / "nowhere", name=name) == 1
    _, problem, last = capsys.readouterr().out.splitlines()
    assert problem.startswith("wrong: ")
    assert "not found in" in problem
    assert last == "1 problem"
    assert not (tmp_path / "nowhere").exists()


# Preparing


def test_the_class_folders_are_made_and_made_again(
    archives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert prepare(root, archives) == 0
    out = capsys.readouterr().out
    assert f"note: {archives[0]} is not the official file" in out
    assert f"{root / 'train'}: 2 classes" in out
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert prepare(root, archives) == 0
    assert "note" not in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert prepare(root, []) == 0
    data = ImageNetDataModule(str(root))
    assert (len(data.train_images), len(data.test_images), data.num_classes) == (6, 4, 2)


def test_shards_are_written_and_are_the_same_data(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(root, [], "--shards", "2") == 0
    assert f"--data.init_args.root {root / 'shards'}" in capsys.readouterr().out
    shards = ImageNetDataModule(str(root / "shards"))
    assert shards.fingerprint == ImageNetDataModule(str(root)).fingerprint
    assert verify(root / "shards") == 0


def test_archives_in_the_folder_itself_need_not_be_named(
    archives: list[Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    archives[0].rename(root / "ILSVRC2012_img_train.tar")
    assert prepare(root, []) == 0
    assert len(list((root / "train").rglob("*.JPEG"))) == 6


def test_official_files_are_put_into_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [tmp_path / f"given{number}" for number in range(4)]
    for path in files:
        path.write_bytes(path.name.encode())
    names = [name for name, _ in MNIST.resources]
    sums = [hashlib.md5(path.read_bytes()).hexdigest() for path in files]
    monkeypatch.setattr(MNIST, "resources", list(zip(names, sums, strict=True)))
    assert prepare(tmp_path / "root", files, name="mnist") == 0
    assert "all 4 official files" in capsys.readouterr().out
    assert (tmp_path / "root" / "MNIST" / "raw" / names[2]).read_bytes() == b"given2"
    assert prepare(tmp_path / "other", files[:3], name="mnist") == 1
    assert f"{names[3]} not found in" in error_line(capsys)


# What cannot be done is one line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "action"),
        (["check"], "invalid choice: 'check'"),
        (["verify", "imagnet"], "invalid choice: 'imagnet'"),
        (["verify", "imagenet", "--workers", "-1"], "-1"),
        (["prepare", "imagenet", "--shards", "many"], "many is no count"),
        (["prepare", "mnist", "--shards", "2"], "--shards is for imagenet alone"),
        (["prepare", "mnist", "--from", "gone.gz"], "no file at gone.gz"),
        (["verify", "mnist", "--qui"], "--qui"),
    ],
)
def test_wrong_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", *arguments]) == 2
    assert says in error_line(capsys)


def test_nothing_to_prepare_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare(tmp_path, []) == 1
    line = error_line(capsys)
    assert f"no ImageNet in {tmp_path}" in line
    for name in ("ILSVRC2012_img_train.tar", "ILSVRC2012_devkit_t12.tar.gz", "--from"):
        assert name in line


def test_val_without_classes(
    archives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path / "root", archives[:2]) == 1
    assert "ILSVRC2012_devkit_t12.tar.gz" in error_line(capsys)
    assert not (tmp_path / "root").exists()


def test_a_truncated_archive(
    archives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archives[0].write_bytes(archives[0].read_bytes()[:-12000])
    assert prepare(tmp_path / "root", archives) == 1
    assert f"{archives[0]} is truncated or no tar archive" in error_line(capsys)


def test_shards_without_val(
    archives: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare(tmp_path / "root", archives[:1], "--shards", "2") == 1
    assert "no folder val in" in error_line(capsys)


def test_a_full_disk(
    archives: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    root = tmp_path / "root"
    assert prepare(root, archives) == 1
    line = error_line(capsys)
    assert f"no space left on the disk of {root}" in line
    assert "what has been written is kept" in line
    assert [path for path in root.rglob("*") if path.is_file()] == []
