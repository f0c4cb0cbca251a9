import errno
import gzip
import hashlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision.datasets import imagenet

from datamodules.ilsvrc import (
    is_official,
    official_archives,
    recognise,
    unpack_train,
    unpack_val,
)

WNIDS = ("n01440764", "n01443537", "n02086240")
# The hierarchy's inner nodes are numbered, too, and numbers are not in the order of the names.
NUMBERS = {"n01440764": 3, "n01443537": 1, "n02086240": 2, "n00001740": 4}
LABELS = ("n02086240", "n01440764", "n01440764", "n01443537", "n02086240")


def content_of(name: str) -> bytes:
    """What stands for an image: never decoded, and of another size for every name."""
    return hashlib.sha256(name.encode()).digest() * (1 + sum(name.encode()) % 97)


def tar(files: Mapping[str, bytes], mode: Any = "w") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def images(*names: str) -> dict[str, bytes]:
    return {name: content_of(name) for name in names}


def train_files(wnid: str) -> list[str]:
    return [f"{wnid}_{number}.JPEG" for number in (10, 2, 300)]


def val_files() -> list[str]:
    return [f"ILSVRC2012_val_{number:08}.JPEG" for number in range(1, len(LABELS) + 1)]


def meta() -> bytes:
    from scipy.io import savemat

    fields = ["ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children"]
    synsets = np.empty((len(NUMBERS), 1), [(name, object) for name in fields])
    for row, (wnid, number) in enumerate(NUMBERS.items()):
        inner = int(wnid not in WNIDS)
        synsets[row, 0] = (number, wnid, f"a {wnid}, thing", "", inner, np.arange(inner))
    packed = io.BytesIO()
    savemat(packed, {"synsets": synsets})
    return packed.getvalue()


def ground_truth() -> bytes:
    return "".join(f"{NUMBERS[wnid]}\n" for wnid in LABELS).encode()


def kit(described: bytes | None = None, truth: bytes | None = None) -> bytes:
    inside = "ILSVRC2012_devkit_t12"
    truth = ground_truth() if truth is None else truth
    contents = {
        f"{inside}/readme.txt": b"read me",
        f"{inside}/data/meta.mat": meta() if described is None else described,
        f"{inside}/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }
    return tar(contents, "w:gz")


@pytest.fixture
def archives(tmp_path: Path) -> Path:
    """A folder with small archives in the layout of ILSVRC 2012, under their official names."""
    folder = tmp_path / "archives"
    folder.mkdir()
    inner = {f"{wnid}.tar": tar(images(*train_files(wnid))) for wnid in reversed(WNIDS)}
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(inner))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(images(*reversed(val_files()))))
    (folder / "ILSVRC2012_devkit_t12.tar.gz").write_bytes(kit())
    return folder


@pytest.fixture
def train(archives: Path) -> Path:
    return archives / "ILSVRC2012_img_train.tar"


@pytest.fixture
def val(archives: Path) -> Path:
    return archives / "ILSVRC2012_img_val.tar"


@pytest.fixture
def devkit(archives: Path) -> Path:
    return archives / "ILSVRC2012_devkit_t12.tar.gz"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def expected_train() -> dict[str, bytes]:
    return {f"{wnid}/{name}": content_of(name) for wnid in WNIDS for name in train_files(wnid)}


def expected_val() -> dict[str, bytes]:
    pairs = zip(LABELS, val_files(), strict=True)
    return dict(sorted((f"{wnid}/{name}", content_of(name)) for wnid, name in pairs))


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# The folders


def test_the_folders_are_those_that_torchvision_makes(
    archives: Path, train: Path, val: Path, devkit: Path, root: Path, monkeypatch: Any
) -> None:
    unpack_train(train, root / "train")
    unpack_val(val, devkit, root / "val")
    for kind, path in (("train", train), ("val", val), ("devkit", devkit)):
        checksum = hashlib.md5(path.read_bytes()).hexdigest()
        monkeypatch.setitem(imagenet.ARCHIVE_META, kind, (path.name, checksum))
    imagenet.parse_devkit_archive(archives)
    imagenet.parse_train_archive(archives)
    imagenet.parse_val_archive(archives)
    assert (
        tree(root / "train") == tree(archives / "train") == dict(sorted(expected_train().items()))
    )
    assert tree(root / "val") == tree(archives / "val") == expected_val()


@pytest.mark.parametrize(
    "lines",
    [
        list(LABELS),
        [f"{name} {wnid}" for name, wnid in zip(val_files(), LABELS, strict=True)][::-1],
        [f"{name}\t{wnid}" for name, wnid in zip(val_files(), LABELS, strict=True)] + ["", "x y"],
    ],
)
def test_the_classes_of_val_may_come_from_a_text(
    lines: list[str], val: Path, root: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(lines))
    unpack_val(val, labels, root / "val")
    assert tree(root / "val") == expected_val()


def test_files_may_lie_in_folders_of_the_archive(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "train.tar"
    inner = tar({f"./{WNIDS[0]}/{name}": content_of(name) for name in train_files(WNIDS[0])})
    archive.write_bytes(tar({f"./train/{WNIDS[0]}.tar": inner, "./train/list.txt": b"list"}))
    unpack_train(archive, root / "train")
    expected = expected_train()
    assert tree(root / "train") == {
        name: expected[name] for name in sorted(expected) if name.startswith(WNIDS[0])
    }


def test_how_far_it_is_can_be_shown(train: Path, val: Path, devkit: Path, root: Path) -> None:
    shown = []

    def track(steps: Iterable[Any], description: str, total: int) -> Iterable[Any]:
        taken = list(steps)
        shown.append((description, total, len(taken)))
        return taken

    unpack_train(train, root / "train", track)
    unpack_val(val, devkit, root / "val", track)
    assert shown == [
        ("ILSVRC2012_img_train.tar: classes", 3, 3),
        ("ILSVRC2012_img_val.tar: images", 5, 5),
    ]


# Which archive is which


def test_archives_are_recognised_by_what_is_in_them(
    train: Path, val: Path, devkit: Path, tmp_path: Path
) -> None:
    found = recognise([devkit, val.rename(tmp_path / "a"), train.rename(tmp_path / "b.tar")])
    assert found == {"labels": devkit, "val": tmp_path / "a", "train": tmp_path / "b.tar"}
    text = tmp_path / "labels.txt"
    text.write_text("n01440764")
    assert recognise([text]) == {"labels": text}
    with pytest.raises(ValueError, match=f"{devkit} and {text} are both taken for labels"):
        recognise([devkit, text])


def test_archives_are_found_under_their_official_names(archives: Path, devkit: Path) -> None:
    assert [path.parent for path in official_archives(archives)] == [archives] * 3
    devkit.rename(archives / "kit.tar.gz")
    assert {path.name for path in official_archives(archives)} == {
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
    }


def test_the_official_archive_is_told_by_its_sum(train: Path, monkeypatch: Any) -> None:
    assert not is_official(train, "train")
    checksum = hashlib.md5(train.read_bytes()).hexdigest()
    monkeypatch.setitem(imagenet.ARCHIVE_META, "train", (train.name, checksum))
    assert is_official(train, "train")


# Again, and after an interruption


def test_unpacking_again_writes_nothing(train: Path, val: Path, devkit: Path, root: Path) -> None:
    for _ in range(2):
        unpack_train(train, root / "train")
        unpack_val(val, devkit, root / "val")
        before = times(root)
    assert times(root) == before
    assert sorted(path.name for path in root.iterdir()) == ["train", "val"]


def test_an_interrupted_unpacking_goes_on_where_it_was(
    train: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copyfileobj
    left = 4

    def full_after_some(source: Any, target: Any) -> None:
        nonlocal left
        if not left:
            target.write(source.read(5))
            raise OSError(errno.ENOSPC, "No space left on device")
        left -= 1
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfileobj", full_after_some)
    with pytest.raises(OSError, match="No space left"):
        unpack_train(train, root / "train")
    # Nobody takes what is there for the whole set, and no file is half there.
    assert not (root / "train").exists()
    part = tree(root / "train.unpacking")
    assert len(part) == 4
    assert part.items() <= expected_train().items()
    before = {path.name: time for path, time in times(root).items() if path.is_file()}
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    unpack_train(train, root / "train")
    assert tree(root / "train") == dict(sorted(expected_train().items()))
    after = {path.name: time for path, time in times(root).items() if path.is_file()}
    assert before.items() <= after.items()
    assert not (root / "train.unpacking").exists()


def test_what_another_tool_left_half_done_is_completed(train: Path, root: Path) -> None:
    name = train_files(WNIDS[1])[0]
    half = root / "train" / WNIDS[1] / name
    half.parent.mkdir(parents=True)
    half.write_bytes(content_of(name)[:7])
    (root / "train" / "mine.txt").write_text("mine")
    unpack_train(train, root / "train")
    found = tree(root / "train")
    assert found.pop("mine.txt") == b"mine"
    assert found == dict(sorted(expected_train().items()))


def test_an_empty_folder_is_filled(train: Path, root: Path) -> None:
    (root / "train").mkdir(parents=True)
    unpack_train(train, root / "train")
    assert tree(root / "train") == dict(sorted(expected_train().items()))


# Archives that must not be trusted


def entry(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


def with_entries(*entries: tarfile.TarInfo) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for made in entries:
            archive.addfile(made, io.BytesIO(bytes(made.size)))
    return packed.getvalue()


def regular(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.size = 3
    return made


EVIL: dict[str, Callable[[Path], list[tarfile.TarInfo]]] = {
    "up": lambda outside: [regular("good.JPEG"), regular("../../../outside/evil.JPEG")],
    "up, from within": lambda outside: [regular("a/../../../../outside/evil.JPEG")],
    "absolute": lambda outside: [regular(f"{outside}/evil.JPEG")],
    "link": lambda outside: [entry("evil.JPEG", tarfile.SYMTYPE, str(outside / "secret"))],
    "through a link": lambda outside: [
        entry("link", tarfile.SYMTYPE, str(outside)),
        regular("link/evil.JPEG"),
    ],
    "hard link": lambda outside: [entry("evil.JPEG", tarfile.LNKTYPE, "../../outside/secret")],
    "pipe": lambda outside: [entry("evil.JPEG", tarfile.FIFOTYPE)],
    "twice": lambda outside: [regular("a/same.JPEG"), regular("b/same.JPEG")],
}


@pytest.mark.parametrize("kind", EVIL)
@pytest.mark.parametrize("place", ["train", "class", "val"])
def test_nothing_leaves_the_folder(
    kind: str, place: str, devkit: Path, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    entries = EVIL[kind](outside)
    archive = tmp_path / "evil.tar"
    if place == "class":
        archive.write_bytes(tar({f"{WNIDS[0]}.tar": with_entries(*entries)}))
    else:
        archive.write_bytes(with_entries(*entries))
    unpack = {
        "val": lambda: unpack_val(archive, devkit, root / "val"),
        "train": lambda: unpack_train(archive, root / "train"),
    }
    with pytest.raises(ValueError, match="is not unpacked: ") as error:
        unpack.get(place, unpack["train"])()
    assert "\n" not in str(error.value)
    assert root.exists() == (place == "class")
    assert {path.name for path in outside.iterdir()} == {"secret"}
    assert (outside / "secret").read_bytes() == b"secret"
    assert list(tmp_path.rglob("*evil.JPEG")) == []
    assert not (root / "train").exists()
    assert not (root / "val").exists()


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", "a/b", ".hidden"])
def test_no_class_leads_out_of_the_folder(name: str, val: Path, root: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join([*LABELS[1:], name]))
    with pytest.raises(ValueError, match="is no name of a class") as error:
        unpack_val(val, labels, root / "val")
    assert repr(name) in str(error.value)
    assert not root.exists()


# Archives that are not whole


def cuts(whole: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        last = archive.getmembers()[-1]
    return {
        "in a file": whole[: last.offset_data + 100],
        "in a header": whole[: last.offset + 100],
        "between two files": whole[: last.offset],
        "to nothing": b"",
        "to something else": b"<html>not found</html>",
    }


KINDS_OF_CUT = ("in a file", "in a header", "between two files", "to nothing", "to something else")


@pytest.mark.parametrize("cut", KINDS_OF_CUT)
@pytest.mark.parametrize("place", ["train", "class", "val"])
def test_a_truncated_archive_is_named_and_nothing_is_lost(
    cut: str, place: str, train: Path, val: Path, devkit: Path, root: Path
) -> None:
    path = val if place == "val" else train
    whole = path.read_bytes()
    if place == "class":
        inner = {f"{wnid}.tar": tar(images(*train_files(wnid))) for wnid in WNIDS}
        inner[f"{WNIDS[2]}.tar"] = cuts(inner[f"{WNIDS[2]}.tar"])[cut]
        path.write_bytes(tar(inner))
    else:
        path.write_bytes(cuts(whole)[cut])
    named = f"{path}/{WNIDS[2]}.tar" if place == "class" else str(path)

    def unpack() -> None:
        if place == "val":
            unpack_val(val, devkit, root / "val")
        else:
            unpack_train(train, root / "train")

    with pytest.raises(ValueError, match=f"{named} is truncated or no tar archive") as error:
        unpack()
    assert "\n" not in str(error.value)
    assert root.exists() == (place == "class")
    assert not (root / "train").exists()
    before = tree(root)
    if place == "class":
        assert len(before) == 6
    path.write_bytes(whole)
    unpack()
    assert before.keys() <= {f"train.unpacking/{name}" for name in expected_train()}
    assert len(tree(root)) == (5 if place == "val" else 9)


def test_an_archive_without_images_is_refused(root: Path, tmp_path: Path) -> None:
    archive = tmp_path / "train.tar"
    archive.write_bytes(tar({f"{WNIDS[0]}.tar": tar({"list.txt": b"1"})}))
    with pytest.raises(ValueError, match=f"{WNIDS[0]}.tar holds no images"):
        unpack_train(archive, root / "train")


# Labels that do not fit


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"n01440764\n" * 4, "says the classes of 4 of the 5 validation images"),
        (lambda: b"ILSVRC2012_val_00000003.JPEG n01440764\n", "says the classes of 1 of the 5"),
        (ground_truth, "'2' is no name of a class, such as n01440764"),
        (lambda: b"\xff\xd8\xff", "is no tar archive and no text"),
        (lambda: gzip.compress(b"nothing"), "is no tar archive and no text"),
        (lambda: tar({"meta.mat": b""}), "is not ImageNet's development kit: no meta.mat and"),
        (lambda: kit()[:300], "is truncated or no tar archive"),
        (lambda: kit(b""), "meta.mat or .* cannot be read"),
        (lambda: kit(b"nonsense"), "meta.mat or .* cannot be read"),
        (lambda: kit(meta()[:200]), "meta.mat or .* cannot be read"),
        (lambda: kit(truth=b"one two"), "meta.mat or .* cannot be read"),
        (lambda: kit(truth=b"9\n1\n1\n2\n3\n"), "'9' is no name of a class"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    content: Callable[[], bytes], message: str, val: Path, root: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels"
    labels.write_bytes(content())
    with pytest.raises(ValueError, match=f"{labels}:? {message}") as error:
        unpack_val(val, labels, root / "val")
    assert "\n" not in str(error.value)
    assert not root.exists()
