"""ImageNet's class folders from the archives of ILSVRC 2012.

torchvision's `parse_train_archive` and its fellows are not used: they unpack without a look at the
paths in an archive, start over after an interruption, and take the official archives alone.
"""

import hashlib
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import numpy as np
from torchvision.datasets.imagenet import ARCHIVE_META  # type: ignore[import-untyped]

from datamodules.image_folder import is_image
from datamodules.progress import Track, silently
from datamodules.whole_file import whole_file

Kind = Literal["train", "val", "labels"]

OFFICIAL_NAMES = tuple(name for name, _ in ARCHIVE_META.values())
META = "meta.mat"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
BYTES_AT_ONCE = 1 << 24


def official_archives(folder: Path) -> list[Path]:
    """The archives that lie in a folder under their official names."""
    paths = [folder / name for name in OFFICIAL_NAMES]
    return [path for path in paths if path.is_file()]


def recognise(files: Sequence[Path]) -> dict[Kind, Path]:
    """Tell what the files are from what is in them.

    Returns:
        "train": the archive of one archive for each class; "val": the archive of all validation
        images; "labels": the development kit, or a text file that says their classes.

    Raises:
        ValueError: Two are of the same kind, or an archive cannot be read.
    """
    found: dict[Kind, Path] = {}
    for path in files:
        kind = _kind(path)
        if kind in found:
            raise ValueError(f"{found[kind]} and {path} are both taken for {kind}; give one")
        found[kind] = path
    return found


def is_official(archive: Path, kind: Kind, track: Track = silently) -> bool:
    """Whether the archive of "train" or "val" has the official MD5 sum."""
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as file:
        chunks = iter(lambda: file.read(BYTES_AT_ONCE), b"")
        count = -(-archive.stat().st_size // BYTES_AT_ONCE)
        for chunk in track(chunks, f"{archive.name}: MD5 sum", count):
            digest.update(chunk)
    _, official = ARCHIVE_META[kind]
    return bool(digest.hexdigest() == official)


def unpack_train(archive: Path, folder: Path, track: Track = silently) -> None:
    """Make the class folders in `folder` from an archive of one archive for each class.

    What is there already with the right size is kept. A new folder has `.unpacking` behind its name
    until it is complete.

    Raises:
        ValueError: The archive is truncated, or a path in it leaves the folder.
        OSError: A file cannot be written.
    """
    with _opened(archive) as outer:
        classes = {
            name.removesuffix(".tar"): member
            for name, member in _files(outer, archive).items()
            if name.endswith(".tar") and not name.startswith(".")
        }
        with _filled(folder) as target:
            for name in track(classes, f"{archive.name}: classes", len(classes)):
                inside = archive / f"{name}.tar"
                with _opened(inside, outer.extractfile(classes[name])) as inner:
                    for image, member in _images(inner, inside).items():
                        _unpack(inner, member, target / name / image)


def unpack_val(archive: Path, labels: Path, folder: Path, track: Track = silently) -> None:
    """Make the class folders in `folder` from an archive of images and a file with their classes.

    What is there already with the right size is kept. A new folder has `.unpacking` behind its name
    until it is complete.

    Args:
        archive: The images. Sorted by name, they are in the order of the labels.
        labels: The development kit; or a text with a line for each image, the name of its class,
            behind the image's own name or in the images' order.
        folder: Where the class folders are made.
        track: Shows how far it is.

    Raises:
        ValueError: An archive is truncated, or a path in it leaves the folder, or the labels are
            not those of the images.
        OSError: A file cannot be written.
    """
    with _opened(archive) as opened:
        images = _images(opened, archive)
        placed = zip(images.items(), _classes(list(images), labels), strict=True)
        with _filled(folder) as target:
            for (image, member), name in track(placed, f"{archive.name}: images", len(images)):
                _unpack(opened, member, target / name / image)


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Give the folder to fill: itself if it holds something, else one aside that becomes it."""
    if folder.is_dir() and any(folder.iterdir()):
        yield folder
        return
    aside = folder.with_name(f"{folder.name}.unpacking")
    aside.mkdir(parents=True, exist_ok=True)
    yield aside
    aside.replace(folder)


@contextmanager
def _opened(path: Path, file: IO[bytes] | None = None) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(None if file else path, fileobj=file) as archive:
            yield archive
    except (tarfile.TarError, EOFError, zlib.error) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise ValueError(
            f"{path} is truncated or no tar archive ({reason}); get it again: what has been "
            f"unpacked is kept"
        ) from error


def _kind(path: Path) -> Kind:
    if not tarfile.is_tarfile(path):
        return "labels"
    with _opened(path) as archive:
        for member in archive:
            if member.name.endswith(".tar"):
                return "train"
            if is_image(PurePosixPath(member.name).name):
                return "val"
    return "labels"


def _files(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    """Files in an archive by name, sorted, without the folders that they are in."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in archive:
        if member.isdir():
            continue
        inside = PurePosixPath(member.name)
        if not member.isreg() or inside.is_absolute() or ".." in inside.parts or not inside.name:
            raise ValueError(
                f"{path} is not unpacked: {member.name!r} in it leads out of the folder, or is no "
                f"regular file"
            )
        if inside.name in found:
            raise ValueError(f"{path} is not unpacked: it has two files {inside.name!r}")
        found[inside.name] = member
    # Cut off between two files, an archive reads like a whole one but for the zeros at its end.
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing")
    return dict(sorted(found.items()))


def _images(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo]:
    images = {name: file for name, file in _files(archive, path).items() if is_image(name)}
    if not images:
        raise ValueError(f"{path} holds no images")
    return images


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if path.is_file() and path.stat().st_size == member.size:
        return
    content = archive.extractfile(member)
    assert content is not None
    with whole_file(path) as aside, aside.open("wb") as file:
        shutil.copyfileobj(content, file)


def _classes(images: list[str], labels: Path) -> list[str]:
    """Class of every validation image; `images` are their names, sorted."""
    if tarfile.is_tarfile(labels):
        classes = _classes_of_kit(labels)
    else:
        try:
            lines = [line.split() for line in labels.read_text("utf-8").splitlines()]
        except UnicodeDecodeError as error:
            raise ValueError(f"{labels} is no tar archive and no text") from error
        named = {line[0]: line[1] for line in lines if len(line) == 2}
        classes = (
            [named[image] for image in images if image in named]
            if named
            else [name for line in lines for name in line]
        )
    if len(classes) != len(images):
        raise ValueError(
            f"{labels} says the classes of {len(classes)} of the {len(images)} validation images"
        )
    for name in classes:
        if name.isdecimal() or name.startswith(".") or PurePosixPath(name).name != name:
            raise ValueError(f"{labels}: {name!r} is no name of a class, such as n01440764")
    return classes


def _classes_of_kit(path: Path) -> list[str]:
    with _opened(path) as archive:
        files = {
            name: file.read()
            for member in archive
            if (name := PurePosixPath(member.name).name) in (META, GROUND_TRUTH)
            and (file := archive.extractfile(member))
        }
    if len(files) < 2:
        raise ValueError(f"{path} is not ImageNet's development kit: no {META} and {GROUND_TRUTH}")
    try:
        names = _leaves(files[META])
        numbers = [int(number) for number in files[GROUND_TRUTH].split()]
    except Exception as error:  # SciPy raises whatever a broken file leads it to
        raise ValueError(f"{path}: {META} or {GROUND_TRUTH} cannot be read ({error})") from error
    return [names.get(number, str(number)) for number in numbers]


def _leaves(meta: bytes) -> dict[int, str]:
    """Numbers and names of the classes; inner nodes of the hierarchy have numbers as well."""
    # Imported here: it takes half a second that nothing else needs.
    from scipy.io import loadmat

    synsets: Any = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
    return {
        int(synset["ILSVRC2012_ID"]): str(synset["WNID"])
        for synset in synsets
        if int(synset["num_children"]) == 0
    }
