"""MNIST, read from the four official archives where they lie."""

import gzip
import hashlib
import os
import uuid
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torchvision.datasets import MNIST  # type: ignore[import-untyped]

from datamodules.in_memory import InMemoryDataModule, LabelledImages

ROOT_VARIABLE = "CONVSUITE_DATA"
SECONDS_WITHOUT_ANSWER = 5


class MNISTDataModule(InMemoryDataModule):
    """MNIST: 60,000 handwritten digits to train on and 10,000 to test, 28x28.

    The gzip archives are looked for in `MNIST/raw`, in `raw` and in the root folder itself. They
    are read as they are, and their MD5 sums are verified at every reading.

    Args:
        root: Folder of the data sets; None for the environment variable CONVSUITE_DATA, else data.
        download: Fetch archives that are missing into MNIST/raw in the root folder.
        **options: Options of `InMemoryDataModule`.
    """

    name = "MNIST"
    num_classes = 10
    input_size = (1, 28, 28)

    def __init__(self, root: str | None = None, download: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.root = Path(root or os.environ.get(ROOT_VARIABLE) or "data").expanduser().absolute()
        self.download = download

    def prepare_data(self) -> None:
        """Fetch what is missing and verify every archive.

        Raises:
            FileNotFoundError: Archives are missing and could not be fetched.
            ValueError: An archive is not the one that its name says.
        """
        reason = ""
        if self.download:
            try:
                self._fetch_missing()
            except OSError as error:
                reason = f" and could not be fetched ({' '.join(str(error).split())})"
        for name, path in self._archives(reason).items():
            _read_verified(path, name)

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """Read the training set and the test set from their archives, and fetch nothing.

        Raises:
            FileNotFoundError: Archives are missing.
            ValueError: An archive is not the one that its name says.
        """
        archives = self._archives()

        def split(prefix: str) -> LabelledImages:
            images, labels = (
                _parse_idx(gzip.decompress(_read_verified(archives[name], name)))
                for name in (f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz")
            )
            return LabelledImages(images.unsqueeze(1), labels.long())

        return split("train"), split("t10k")

    @property
    def _folders(self) -> tuple[Path, Path, Path]:
        return self.root / "MNIST" / "raw", self.root / "raw", self.root

    def _find(self, name: str) -> Path | None:
        paths = (folder / name for folder in self._folders)
        return next((path for path in paths if path.is_file()), None)

    def _archives(self, reason: str = "") -> dict[str, Path]:
        found = {name: self._find(name) for name, _ in MNIST.resources}
        missing = [name for name, path in found.items() if path is None]
        if missing:
            official, raw, root = self._folders
            raise FileNotFoundError(
                f"MNIST: {', '.join(missing)} not found in {official}, {raw} or {root}{reason}; "
                f"put the archives there, or name the folder that has them with "
                f"--data.init_args.root or the environment variable {ROOT_VARIABLE}"
            )
        return {name: path for name, path in found.items() if path is not None}

    def _fetch_missing(self) -> None:
        for name, checksum in MNIST.resources:
            if self._find(name) is None:
                _write_whole(self._folders[0] / name, _fetch(name, checksum))


def _fetch(name: str, checksum: str) -> bytes:
    reasons = []
    for mirror in MNIST.mirrors:
        rank_zero_info(f"Downloading {mirror}{name}")
        try:
            with urlopen(mirror + name, timeout=SECONDS_WITHOUT_ANSWER) as response:
                content: bytes = response.read()
        except (OSError, HTTPException) as error:
            reasons.append(f"{mirror}: {getattr(error, 'reason', error)}")
            continue
        if _md5(content) == checksum:
            return content
        reasons.append(f"{mirror}: sent something else")
    raise ConnectionError("; ".join(reasons))


def _write_whole(path: Path, content: bytes) -> None:
    # Aside and renamed, under a name of its own: several nodes may share the folder.
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _read_verified(path: Path, name: str) -> bytes:
    content = path.read_bytes()
    found, expected = _md5(content), dict(MNIST.resources)[name]
    if found != expected:
        raise ValueError(
            f"{path} {_fault(content, found)} (MD5 {found}, official {expected}); replace it by "
            f"the official archive, or delete it to have it downloaded"
        )
    return content


def _fault(content: bytes, md5: str) -> str:
    other = next((name for name, checksum in MNIST.resources if checksum == md5), None)
    if other is not None:
        return f"is really {other}"
    try:
        complete = bool(gzip.decompress(content))
    except EOFError:
        complete = False
    except Exception:  # whatever is wrong with it, the checksum has found it already
        complete = True
    return "is not the official archive" if complete else "is truncated"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _parse_idx(content: bytes) -> Tensor:
    # Two zero bytes, the type (8: uint8), the number of dimensions, each as big-endian int32.
    dimensions = content[3]
    sizes = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    return torch.from_numpy(values.reshape(sizes).copy())
