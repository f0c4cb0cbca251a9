import hashlib
import io
import pickle
import runpy
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from datamodules import CIFAR10DataModule, CIFAR100DataModule
from datamodules.cifar import CIFARDataModule

SETS = [CIFAR10DataModule, CIFAR100DataModule]


def python_2_pickle(data: "np.ndarray[Any, Any]", labels: dict[str, list[int]]) -> bytes:
    """A dictionary of an array and lists, pickled as the official files are."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    def integer(value: int) -> bytes:
        return b"M" + struct.pack("<H", value)

    rows, columns = data.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01"
        + (integer(rows) + integer(columns) + b"\x86")
        + (b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN" + 2 * b"J\xff\xff\xff\xff")
        + (b"K\x00tb\x89T" + struct.pack("<I", data.size) + data.tobytes() + b"tb")
    )
    lists = [
        text(name) + b"](" + b"".join(map(integer, values)) + b"e"
        for name, values in labels.items()
    ]
    return b"\x80\x02}(" + text("data") + array + b"".join(lists) + b"u."


def official_names(module: type[CIFARDataModule]) -> list[str]:
    return [name for name, _ in module.official.train_list + module.official.test_list]


def write_files(module: type[CIFARDataModule], folder: Path) -> None:
    """Write small files: two images in each for training, three for the test."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(1)
    for number, name in enumerate(official_names(module)):
        count = 3 if name.startswith("test") else 2
        data = generator.integers(0, 256, (count, 3072), np.uint8)
        fine = [(10 * number + row) % module.num_classes for row in range(count)]
        labels = {"coarse_labels": [99] * count, module.label_key: fine}
        (folder / name).write_bytes(python_2_pickle(data, labels))
    (folder / module.official.meta["filename"]).write_bytes(b"names")


def make_official(
    module: type[CIFARDataModule], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the files in `folder` pass for the official ones, on a server that works."""

    def checksum(path: Path) -> str:
        return hashlib.md5(path.read_bytes()).hexdigest()

    official = module.official
    for files in ("train_list", "test_list"):
        known = [[name, checksum(folder / name)] for name, _ in getattr(official, files)]
        monkeypatch.setattr(official, files, known)
    archive = folder.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz") as packed:
        packed.add(folder, official.base_folder)
        escape = tarfile.TarInfo("../escaped")
        packed.addfile(escape, io.BytesIO(b""))
    monkeypatch.setattr(official, "url", archive.as_uri())
    monkeypatch.setattr(official, "tgz_md5", checksum(archive))
    monkeypatch.delenv("CONVSUITE_DATA", raising=False)


@pytest.fixture(params=SETS)
def module(request: pytest.FixtureRequest) -> type[CIFARDataModule]:
    chosen: type[CIFARDataModule] = request.param
    return chosen


@pytest.fixture
def source(module: type[CIFARDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "source" / module.official.base_folder
    write_files(module, folder)
    make_official(module, folder, monkeypatch)
    return folder


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


# The real files


@pytest.fixture(scope="session")
def cifar10(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the official CIFAR-10 files, unpacked from their small form."""
    script = shared_data / "cifar10" / "unpack.py"
    if not script.is_file():
        pytest.skip(f"no CIFAR-10 at {script.parent}")
    root = tmp_path_factory.mktemp("cifar10")
    with pytest.MonkeyPatch.context() as context:
        context.setattr(sys, "argv", [str(script), str(root)])
        runpy.run_path(str(script), run_name="__main__")
    return root


def test_the_official_files_give_cifar_10(cifar10: Path) -> None:
    before = listing(cifar10)
    data = CIFAR10DataModule(root=str(cifar10), download=False, holdout=5000)
    data.prepare_data()
    train, test = data.sets()
    assert (data.num_train, data.num_val, data.num_test) == (45000, 5000, 10000)
    for ours, train_set in ((train, True), (test, False)):
        theirs = datasets.CIFAR10(str(cifar10), train=train_set)
        assert np.array_equal(ours.images.permute(0, 2, 3, 1).numpy(), theirs.data)
        assert ours.targets.tolist() == theirs.targets
    # Mean and standard deviation that are quoted everywhere for CIFAR-10.
    levels = torch.arange(256) / 255
    for channel, (mean, std) in enumerate([(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)]):
        share = torch.bincount(train.images[:, channel].flatten(), minlength=256) / (50000 * 1024)
        found = (share * levels).sum().item()
        assert found == pytest.approx(mean, abs=5e-5)
        assert (share * (levels - found) ** 2).sum().sqrt().item() == pytest.approx(std, abs=5e-5)
    assert listing(cifar10) == before


def test_a_truncated_official_file_is_named(cifar10: Path, tmp_path: Path) -> None:
    for path in (cifar10 / "cifar-10-batches-py").iterdir():
        (tmp_path / path.name).symlink_to(path)
    name = "data_batch_3"
    (tmp_path / name).unlink()
    whole = (cifar10 / "cifar-10-batches-py" / name).read_bytes()
    (tmp_path / name).write_bytes(whole[:1_000_000])
    with pytest.raises(ValueError, match=f"{tmp_path / name} is truncated .*replace it") as error:
        CIFAR10DataModule(root=str(tmp_path)).prepare_data()
    assert "\n" not in str(error.value)


# Reading


def test_images_and_classes_are_read_in_their_order(
    module: type[CIFARDataModule], source: Path
) -> None:
    data = module(root=str(source))
    data.prepare_data()
    train, test = data.sets()
    count = 2 * len(module.official.train_list)
    assert train.images.shape == (count, 3, 32, 32)
    assert test.images.shape == (3, 3, 32, 32)
    first = source / official_names(module)[0]
    assert first.read_bytes().find(train.images[:2].numpy().tobytes()) > 0
    expected = [(10 * (row // 2) + row % 2) % module.num_classes for row in range(count)]
    assert train.targets.tolist() == expected
    assert train.targets.dtype == torch.int64
    assert (data.in_chans, data.input_size) == (3, (3, 32, 32))


@pytest.mark.parametrize("inside", [True, False])
def test_files_are_found_in_the_official_folder_and_in_the_root(
    inside: bool,
    module: type[CIFARDataModule],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CONVSUITE_DATA", str(source.parent if inside else source))
    before = listing(source)
    data = module(download=False)
    data.prepare_data()
    assert data.num_test == 3
    assert listing(source) == before


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the payload was run')",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps({"data": Payload(), "labels": []}, protocol=2),
        b"\x80\x02cnumpy\nload\nU\x01x\x85R.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
    ],
)
def test_code_in_a_file_is_not_run_even_if_its_checksum_is_right(
    content: bytes,
    module: type[CIFARDataModule],
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = official_names(module)[0]
    (source / name).write_bytes(content)
    make_official(module, source, monkeypatch)
    with pytest.raises(ValueError, match=f"{name} is not read, it would run .*replace") as error:
        module(root=str(source)).setup()
    assert "\n" not in str(error.value)


# Files that are not what they should be, and missing files


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content[:-100], "is truncated"),
        (lambda content: content[:2], "is truncated"),
        (lambda content: b"", "is truncated"),
        (lambda content: b"<html>log in</html>", "is not the official file"),
        (lambda content: content[:50] + b"?" + content[51:], "is not the official file"),
    ],
)
def test_a_wrong_file_is_named_and_neither_read_nor_replaced(
    change: Any, fault: str, module: type[CIFARDataModule], source: Path
) -> None:
    path = source / official_names(module)[-1]
    path.write_bytes(change(path.read_bytes()))
    before = listing(source)
    data = module(root=str(source))
    for step in (data.prepare_data, data.setup):
        with pytest.raises(ValueError, match=f"{path} {fault} .*replace it") as error:
            step()
        assert "\n" not in str(error.value)
    assert listing(source) == before


def test_missing_files_are_taken_from_the_official_archive(
    module: type[CIFARDataModule], source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    data = module(root=str(root))
    data.prepare_data()
    expected = sorted(path.name for path in source.iterdir())
    assert sorted(path.name for path in (root / source.name).iterdir()) == expected
    assert not (tmp_path / "escaped").exists()
    assert not (root / "escaped").exists()
    before = listing(root)
    data.prepare_data()
    assert listing(root) == before
    assert data.num_test == 3


@pytest.mark.parametrize("download", [True, False])
def test_missing_files_that_cannot_be_fetched_are_named_with_the_remedies(
    download: bool,
    module: type[CIFARDataModule],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.official, "url", (tmp_path / "gone").as_uri())
    root = tmp_path / "root"
    with pytest.raises(FileNotFoundError) as error:
        module(root=str(root), download=download).prepare_data()
    message = str(error.value)
    assert "\n" not in message
    for part in (*official_names(module), str(root / source.name), "CONVSUITE_DATA", "put the"):
        assert part in message
    assert "--data.init_args.root" in message
    assert ("could not be fetched" in message) == download
    assert not root.exists()


def test_a_wrong_archive_is_not_unpacked(
    module: type[CIFARDataModule], source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.official, "tgz_md5", "0" * 32)
    with pytest.raises(FileNotFoundError, match="sent something else"):
        module(root=str(tmp_path / "root")).prepare_data()
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("packed", [True, False])
def test_files_that_are_here_already_are_put_into_place(
    packed: bool, module: type[CIFARDataModule], source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    given = [source.with_suffix(".tar.gz")] if packed else sorted(source.iterdir(), reverse=True)
    data = module(root=str(root), download=False)
    data.place([path for path in given if path.name != module.official.meta["filename"]])
    data.prepare_data()
    assert {path.name for path in (root / source.name).iterdir()} >= set(official_names(module))
    assert not (tmp_path / "escaped").exists()
    before = listing(root)
    data.place(given[:1])
    assert listing(root) == before


def test_a_truncated_file_is_replaced_by_the_official_one_that_is_given(
    module: type[CIFARDataModule], source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    name = official_names(module)[0]
    root.mkdir()
    (root / name).write_bytes((source / name).read_bytes()[:-9])
    data = module(root=str(root), download=False)
    data.place([source.with_suffix(".tar.gz")])
    assert list(data.faults()) == []
    assert (root / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize("change", [lambda content: content[:-5], lambda content: b"<html>"])
def test_a_file_that_is_not_official_is_not_put_into_place(
    change: Any, module: type[CIFARDataModule], source: Path, tmp_path: Path
) -> None:
    archive = source.with_suffix(".tar.gz")
    archive.write_bytes(change(archive.read_bytes()))
    with pytest.raises(ValueError, match=f"{archive} is no official file of {module.name} "):
        module(root=str(tmp_path / "root")).place([archive])
    assert not (tmp_path / "root").exists()


def test_all_faults_are_told(module: type[CIFARDataModule], source: Path) -> None:
    first, *_, last = official_names(module)
    (source / first).unlink()
    (source / last).write_bytes((source / last).read_bytes()[:-9])
    missing, truncated = module(root=str(source)).faults()
    assert f"{first} not found in" in missing
    assert f"{source / last} is truncated" in truncated
    assert not (source / first).exists()
