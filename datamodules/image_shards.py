"""Images in tar files: few large files instead of a million small ones, for shared disks.

A tar file that is not compressed can be read at any place. An index says where each image begins,
so images in shards have the rows that they have in class folders, and order, exactness on several
devices, resumption, holdout and sums are the same. The tar files are in WebDataset's format
(`<row>.jpg` beside `<row>.cls`, in random order), for tools that read it; its library is not needed
here, and reads files from end to end, so that an epoch has neither an exact length on several
devices nor a middle to resume in.
"""

import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.image_files import ImageFiles
from datamodules.whole_file import whole_file

INDEX = "index.npz"
# The order of images in the shards, which only readers that cannot go to any place depend on.
ORDER_SEED = 0
MOST_OPEN_FILES = 256

_REMEDY = "write the shards again (data prepare imagenet --shards); those that are whole are kept"


class Member(NamedTuple):
    """A file in a tar file.

    Attributes:
        name: Its name.
        size: Its size in bytes.
        offset: Where its content begins.
    """

    name: str
    size: int
    offset: int


class ImageShards(ImageFiles):
    """The images of one split in tar files, as `write_shards` writes them.

    Args:
        folder: Folder of the split.

    Raises:
        ValueError: The index or a shard is not whole.
    """

    def __init__(self, folder: Path) -> None:
        targets, names, shards, self._places = _read_index(
            folder, "targets", "names", "shards", "places"
        )
        super().__init__(folder, class_names_of_shards(folder), torch.from_numpy(targets), names)
        self._shards = [str(folder / name) for name in shards]
        numbers, offsets, sizes = self._places.T
        for number, shard in enumerate(self._shards):
            end = (offsets + sizes)[numbers == number].max(initial=0)
            if not os.path.isfile(shard) or os.path.getsize(shard) < end:
                raise ValueError(f"{shard} is missing or truncated; {_REMEDY}")

    def path(self, row: int) -> str:
        """Shard of an image and its name."""
        return os.path.join(self._shards[self._places[row, 0]], self.name(row))

    def size(self, row: int) -> int:
        """Size of an image's file in bytes."""
        return int(self._places[row, 2])

    def open(self, row: int) -> BinaryIO:
        """Read an image's file.

        Raises:
            EOFError: The shard ends before.
        """
        shard, offset, size = self._places[row].tolist()
        # Processes share the position in a file that was opened before they were: take no notice.
        content = os.pread(_opened(self._shards[shard]).fileno(), size, offset)
        if len(content) < size:
            raise EOFError("its shard is truncated")
        return io.BytesIO(content)


def has_shards(folder: Path) -> bool:
    """Whether the folder of a split holds shards, all of them written."""
    return (folder / INDEX).is_file()


def class_names_of_shards(folder: Path) -> list[str]:
    """Names of the classes of a split in shards, sorted."""
    (classes,) = _read_index(folder, "classes")
    return [name.decode(errors="surrogateescape") for name in classes]


def write_shards(images: ImageFiles, folder: Path, count: int) -> Iterator[Path]:
    """Write images to `count` tar files and an index; yields each tar file once it is whole.

    A shard that is there already, with these images, is kept: interrupted, it goes on where it was.

    Raises:
        ValueError: There are fewer images than shards.
        FileExistsError: The folder holds other tar files.
        OSError: An image cannot be read, or a shard not written.
    """
    if not 1 <= count <= len(images):
        raise ValueError(f"{len(images)} images in {images.folder} give no {count} shards")
    shards = [f"{folder.name}-{number:06}.tar" for number in range(count)]
    others = sorted({path.name for path in folder.glob("*.tar")} - set(shards))
    if others:
        raise FileExistsError(
            f"{folder / others[0]} is none of the {count} shards to be written; remove what is in "
            f"the folder, or choose another"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(ORDER_SEED))
    places = np.zeros((len(images), 3), np.int64)
    for number, name in enumerate(shards):
        rows = order[number::count].tolist()
        members = _members(folder / name)
        if [(member.name, member.size) for member in members] != _files_of(images, rows):
            _write_shard(folder / name, images, rows)
            members = _members(folder / name)
        places[rows] = [(number, member.offset, member.size) for member in members[::2]]
        yield folder / name
    classes = [name.encode(errors="surrogateescape") for name in images.classes]
    with whole_file(folder / INDEX) as aside, aside.open("wb") as file:
        np.savez(
            file,
            classes=np.array(classes, np.bytes_),
            shards=np.array(shards),
            names=images.names,
            targets=images.targets.numpy(),
            places=places,
        )


def _read_index(folder: Path, *keys: str) -> list[NDArray[Any]]:
    try:
        with np.load(folder / INDEX, allow_pickle=False) as index:
            return [index[key] for key in keys]
    except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{folder / INDEX} is not whole; {_REMEDY}") from error


@lru_cache(maxsize=MOST_OPEN_FILES)
def _opened(shard: str) -> BinaryIO:
    return open(shard, "rb", buffering=0)


def _files_of(images: ImageFiles, rows: list[int]) -> list[tuple[str, int]]:
    """Names and sizes of what a shard holds: each image, and behind it the number of its class."""
    files = []
    for row in rows:
        ending = os.path.splitext(images.name(row))[1].lower()
        files.append((f"{row:08}" + {".jpeg": ".jpg"}.get(ending, ending), images.size(row)))
        files.append((f"{row:08}.cls", len(str(int(images.targets[row])))))
    return files


def _write_shard(path: Path, images: ImageFiles, rows: list[int]) -> None:
    files = iter(_files_of(images, rows))
    with whole_file(path) as aside, tarfile.open(aside, "w") as archive:
        for row in rows:
            with images.open(row) as file:
                contents = file.read(), str(int(images.targets[row])).encode()
            for content in contents:
                entry = tarfile.TarInfo()
                entry.name, entry.size = next(files)
                if entry.size != len(content):
                    raise OSError(f"{images.path(row)} changed while it was read; try again")
                archive.addfile(entry, io.BytesIO(content))


def _members(path: Path) -> list[Member]:
    """Files in a tar file in their order; none if it is not there or not whole."""
    try:
        with tarfile.open(path, "r:") as archive:
            return [Member(entry.name, entry.size, entry.offset_data) for entry in archive]
    except (FileNotFoundError, tarfile.TarError):
        return []
