import gzip
import hashlib
import socket
import struct
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST

from datamodules import MNISTDataModule, official

NAMES = [name for name, _ in MNIST.resources]
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = NAMES


def write_archives(folder: Path) -> dict[str, str]:
    """Write four small archives (20 and 5 images) and return their MD5 sums."""
    folder.mkdir(parents=True)
    for count, images, labels in ((20, TRAIN_IMAGES, TRAIN_LABELS), (5, TEST_IMAGES, TEST_LABELS)):
        pixels = torch.randint(256, (count, 28, 28), generator=torch.Generator().manual_seed(count))
        header = struct.pack(">BBBBIII", 0, 0, 8, 3, count, 28, 28)
        content = header + pixels.to(torch.uint8).numpy().tobytes()
        (folder / images).write_bytes(gzip.compress(content, mtime=0))
        header = struct.pack(">BBBBI", 0, 0, 8, 1, count)
        classes = bytes(row % 10 for row in range(count))
        (folder / labels).write_bytes(gzip.compress(header + classes, mtime=0))
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in NAMES}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of small archives that pass for the official ones, on a mirror that works."""
    folder = tmp_path / "source"
    checksums = write_archives(folder)
    monkeypatch.setattr(MNIST, "resources", list(checksums.items()))
    monkeypatch.setattr(MNIST, "mirrors", [f"{folder.as_uri()}/"])
    monkeypatch.delenv("CONVSUITE_DATA", raising=False)
    return folder


def assert_one_line(error: pytest.ExceptionInfo[Exception]) -> None:
    assert "\n" not in str(error.value)


def listing(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


# The real archives


def test_the_official_archives_give_mnist(shared_data: Path) -> None:
    before = listing(shared_data / "MNIST")
    data = MNISTDataModule(root=str(shared_data), download=False)
    data.prepare_data()
    train, test = data.sets()
    assert (data.num_train, data.num_val, data.num_test) == (60000, 0, 10000)
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # Mean and standard deviation that are quoted everywhere for MNIST.
    pixels = train.images.double() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)
    assert listing(shared_data / "MNIST") == before


def test_the_papers_split_keeps_the_last_10000_for_the_report(shared_data: Path) -> None:
    data = MNISTDataModule(
        root=str(shared_data), holdout=10000, evaluate_on="holdout", eval_batch_size=10000
    )
    assert (data.num_train, data.num_val, data.num_test) == (50000, 0, 10000)
    _, targets, rows = next(iter(data.test_dataloader()))
    assert (rows[0], rows[-1]) == (50000, 59999)
    assert torch.equal(targets, data.sets()[0].targets[50000:])


# Where archives are found


@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "."])
def test_archives_are_read_where_they_lie(folder: str, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / folder).parent.mkdir(parents=True, exist_ok=True)
    source.rename(root / folder)
    before = listing(root)
    data = MNISTDataModule(root=str(root))
    data.prepare_data()
    assert (data.num_train, data.num_test) == (20, 5)
    assert data.sets()[0].targets.tolist() == [row % 10 for row in range(20)]
    assert listing(root) == before


def test_root_is_the_argument_else_the_environment_else_data(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert MNISTDataModule().root == tmp_path / "data"
    monkeypatch.setenv("CONVSUITE_DATA", str(source))
    assert MNISTDataModule().root == source
    assert MNISTDataModule(root="/elsewhere").root == Path("/elsewhere")
    assert MNISTDataModule(root="~/sets").root == Path.home() / "sets"
    data = MNISTDataModule(download=False)
    data.prepare_data()
    assert data.num_train == 20


# Archives that are not what they should be


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        (TRAIN_IMAGES, TEST_IMAGES, f"is really {TEST_IMAGES}"),
        (TRAIN_LABELS, TRAIN_IMAGES, f"is really {TRAIN_IMAGES}"),
        (TEST_LABELS, TRAIN_LABELS, f"is really {TRAIN_LABELS}"),
        (TRAIN_IMAGES, -100, "is truncated"),
        (TEST_IMAGES, 3, "is truncated"),
        (TEST_LABELS, 0, "is truncated"),
        (TRAIN_LABELS, b"<html>log in</html>", "is not the official file"),
        (TEST_IMAGES, gzip.compress(b"other", mtime=0), "is not the official file"),
    ],
)
def test_a_wrong_archive_is_named_and_neither_read_nor_replaced(
    name: str, content: str | int | bytes, fault: str, source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    write_archives(root)
    if isinstance(content, int):
        content = (source / name).read_bytes()[:content]
    elif isinstance(content, str):
        content = (source / content).read_bytes()
    (root / name).write_bytes(content)
    before = listing(root)
    data = MNISTDataModule(root=str(root))
    for step in (data.prepare_data, data.setup):
        with pytest.raises(ValueError, match=f"{root / name} {fault} .*replace it") as error:
            step()
        assert_one_line(error)
    assert listing(root) == before


def test_an_archive_that_breaks_after_it_was_verified_is_not_read(source: Path) -> None:
    data = MNISTDataModule(root=str(source))
    data.prepare_data()
    content = bytearray((source / TRAIN_IMAGES).read_bytes())
    content[len(content) // 2] ^= 1
    (source / TRAIN_IMAGES).write_bytes(content)
    with pytest.raises(ValueError, match=TRAIN_IMAGES):
        data.setup()


# Missing archives


def test_missing_archives_are_fetched_once(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    data = MNISTDataModule(root=str(root))
    data.prepare_data()
    assert sorted(path.name for path in (root / "MNIST" / "raw").iterdir()) == sorted(NAMES)
    before = listing(root)
    data.prepare_data()
    assert listing(root) == before
    assert data.num_train == 20


def test_only_what_is_missing_is_fetched(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_archives(root)
    (root / TEST_LABELS).unlink()
    data = MNISTDataModule(root=str(root))
    data.prepare_data()
    assert [path.name for path in (root / "MNIST" / "raw").iterdir()] == [TEST_LABELS]
    assert data.num_test == 5


def test_the_next_mirror_is_asked(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.mkdir()
    (wrong / TRAIN_IMAGES).write_bytes(b"moved")
    monkeypatch.setattr(MNIST, "mirrors", [f"{wrong.as_uri()}/", f"{source.as_uri()}/"])
    data = MNISTDataModule(root=str(tmp_path / "root"))
    data.prepare_data()
    assert data.num_train == 20


@pytest.mark.parametrize("download", [True, False])
def test_missing_archives_that_cannot_be_fetched_are_named_with_the_remedies(
    download: bool, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MNIST, "mirrors", [f"{(tmp_path / 'gone').as_uri()}/"])
    root = tmp_path / "root"
    data = MNISTDataModule(root=str(root), download=download)
    with pytest.raises(FileNotFoundError) as error:
        data.prepare_data()
    assert_one_line(error)
    message = str(error.value)
    for part in (*NAMES, f"{root / 'MNIST' / 'raw'}", "put the files there"):
        assert part in message
    assert "--data.init_args.root" in message
    assert "CONVSUITE_DATA" in message
    assert ("could not be fetched" in message) == download
    assert not root.exists()


def test_reading_fetches_nothing(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="not found in"):
        MNISTDataModule(root=str(tmp_path / "root")).setup()
    assert not (tmp_path / "root").exists()


def test_a_wrong_download_is_not_kept(source: Path, tmp_path: Path) -> None:
    (source / TRAIN_IMAGES).write_bytes(b"moved")
    with pytest.raises(FileNotFoundError, match="sent something else"):
        MNISTDataModule(root=str(tmp_path / "root")).prepare_data()
    assert not (tmp_path / "root").exists()


def test_a_full_disk_leaves_no_broken_archive(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(path: Path, content: bytes) -> int:
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    root = tmp_path / "root"
    with monkeypatch.context() as context:
        context.setattr(Path, "write_bytes", write_half)
        with pytest.raises(FileNotFoundError, match="No space left on device"):
            MNISTDataModule(root=str(root)).prepare_data()
    assert not any(path.is_file() for path in root.rglob("*"))


def test_a_silent_server_is_given_up(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "SECONDS_WITHOUT_ANSWER", 0.2)
    monkeypatch.setenv("no_proxy", "*")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/"
        monkeypatch.setattr(MNIST, "mirrors", [address])
        with pytest.raises(FileNotFoundError, match="timed out"):
            MNISTDataModule(root=str(tmp_path / "root")).prepare_data()
