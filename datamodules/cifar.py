"""CIFAR-10 and CIFAR-100, read from the official python files where they lie."""

import io
import pickle
import tarfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision import datasets  # type: ignore[import-untyped]

from datamodules.in_memory_loader import LabelledImages
from datamodules.official import OfficialDataModule, fetch_verified, md5


class CIFARDataModule(OfficialDataModule):
    """Base of both CIFAR sets; a subclass names torchvision's class, which has the file names.

    Attributes:
        official: Class of torchvision with names, MD5 sums and address of the official files.
        label_key: What the labels are called in the files.
    """

    input_size = (3, 32, 32)
    official: ClassVar[Any]
    label_key: ClassVar[str]

    @property
    def checksums(self) -> dict[str, str]:
        """MD5 sum of every file with images."""
        return dict([*self.official.train_list, *self.official.test_list])

    @property
    def classes(self) -> list[str] | None:
        """Names of the classes, None where the official file that has them is missing."""
        meta = self.official.meta
        path = self._find(meta["filename"])
        content = path.read_bytes() if path else b""
        if md5(content) != meta["md5"]:
            return None
        names: list[str] = _unpickle(meta["filename"], content)[meta["key"]]
        return names

    def fetch(self, missing: list[str]) -> Iterator[tuple[str, bytes]]:
        """Fetch the official archive; yields its files, those with the classes' names as well."""
        return self.unpack(fetch_verified([self.official.url], self.official.tgz_md5))

    def unpack(self, content: bytes) -> Iterator[tuple[str, bytes]]:
        """Name and content of the official files in `content`, the official archive or a file."""
        if md5(content) != self.official.tgz_md5:
            yield from super().unpack(content)
            return
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            # Nothing but the official names is looked for, so no path can leave the folder.
            for name in (*self.checksums, self.official.meta["filename"]):
                member = archive.extractfile(f"{self.official.base_folder}/{name}")
                if member is not None:
                    yield name, member.read()

    def is_truncated(self, content: bytes) -> bool:
        """Whether a pickle of a dictionary, as the official files are, lacks its end."""
        begin, end = b"\x80\x02}", b"u."
        return content[: len(begin)] == begin[: len(content)] and not content.endswith(end)

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the training set and the test set, and fetch nothing.

        Raises:
            FileNotFoundError: Files are missing.
            ValueError: A file is not the one that its name says.
        """

        def split(files: list[list[str]]) -> LabelledImages:
            parts = [_unpickle(name, self.content(name)) for name, _ in files]
            images = np.concatenate([part["data"] for part in parts])
            targets = [label for part in parts for label in part[self.label_key]]
            return LabelledImages(
                torch.from_numpy(images.reshape(-1, *self.input_size)), torch.tensor(targets)
            )

        return split(self.official.train_list), split(self.official.test_list)


class CIFAR10DataModule(CIFARDataModule):
    """CIFAR-10: 50,000 colour images of ten classes to train on and 10,000 to test, 32x32.

    The files are looked for in `cifar-10-batches-py` and in the root folder itself. They are read
    as they are, their MD5 sums are verified at every reading, and no code in them is run.

    Usual normalisation: mean [0.4914, 0.4822, 0.4465] and std [0.2470, 0.2435, 0.2616]; usual
    augmentation: crop_padding 4 and flip.

    Args:
        root: Folder of the data sets; None for the environment variable CONVSUITE_DATA, else data.
        download: Fetch the official archive into the root folder if files are missing.
        **options: Options of `InMemoryDataModule`.
    """

    name = "CIFAR-10"
    num_classes = 10
    official = datasets.CIFAR10
    folders = (datasets.CIFAR10.base_folder, "")
    label_key = "labels"


class CIFAR100DataModule(CIFARDataModule):
    """CIFAR-100: 50,000 colour images of a hundred classes to train on and 10,000 to test, 32x32.

    The files are looked for in `cifar-100-python` and in the root folder itself. They are read as
    they are, their MD5 sums are verified at every reading, and no code in them is run. The classes
    are the hundred fine ones.

    Usual normalisation: mean [0.5071, 0.4865, 0.4409] and std [0.2673, 0.2564, 0.2762]; usual
    augmentation: crop_padding 4 and flip.

    Args:
        root: Folder of the data sets; None for the environment variable CONVSUITE_DATA, else data.
        download: Fetch the official archive into the root folder if files are missing.
        **options: Options of `InMemoryDataModule`.
    """

    name = "CIFAR-100"
    num_classes = 100
    official = datasets.CIFAR100
    folders = (datasets.CIFAR100.base_folder, "")
    label_key = "fine_labels"


class _ArraysOnly(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, strings and arrays, and calls nothing else."""

    _allowed: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for `module.name` in the official files."""
        if (module, name) not in self._allowed:
            raise pickle.UnpicklingError(f"it would run {module}.{name}")
        return self._allowed[module, name]


def _unpickle(name: str, content: bytes) -> dict[str, Any]:
    try:
        # Written by Python 2, whose strings have no encoding: latin1 keeps every byte.
        values: dict[str, Any] = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"{name} is not read, {error}; replace it by the official file") from error
    return values
