"""Data sets that come as official files with known MD5 sums: found, fetched, verified, read."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from lightning.pytorch.utilities import rank_zero_info

from datamodules.in_memory import InMemoryDataModule
from datamodules.whole_file import whole_file

ROOT_VARIABLE = "CONVSUITE_DATA"
SECONDS_WITHOUT_ANSWER = 5


def data_root(root: str | None) -> Path:
    """Folder of the data sets: the given one, else that of CONVSUITE_DATA, else data."""
    return Path(root or os.environ.get(ROOT_VARIABLE) or "data").expanduser().absolute()


class OfficialDataModule(InMemoryDataModule):
    """Base of data modules that read official files.

    The files are looked for in the data set's folders, which `folders` names, and read as they are;
    their MD5 sums are verified at every reading.

    Args:
        root: Folder of the data sets; None for the environment variable CONVSUITE_DATA, else data.
        download: Fetch files that are missing into the first of `folders`.
        **options: Options of `InMemoryDataModule`.

    Attributes:
        folders: Folders, relative to the root, that may hold the files.
    """

    folders: tuple[str, ...]

    def __init__(self, root: str | None = None, download: bool = True, **options: Any) -> None:
        super().__init__(**options)
        self.root = data_root(root)
        self.download = download

    @property
    @abstractmethod
    def checksums(self) -> dict[str, str]:
        """MD5 sum of every official file that is read."""

    @abstractmethod
    def fetch(self, missing: list[str]) -> Iterator[tuple[str, bytes]]:
        """Fetch at least the `missing` files; yields name and content of each.

        Raises:
            OSError: Something could not be fetched.
        """

    def unpack(self, content: bytes) -> Iterator[tuple[str, bytes]]:
        """Name and content of the official files in `content`, which may be one; else none."""
        found = md5(content)
        return ((name, content) for name, known in self.checksums.items() if known == found)

    @abstractmethod
    def is_truncated(self, content: bytes) -> bool:
        """Whether `content`, which is not official, is an official file that was cut off."""

    def prepare_data(self) -> None:
        """Fetch what is missing and verify every file.

        Raises:
            FileNotFoundError: Files are missing and could not be fetched.
            ValueError: A file is not the one that its name says.
        """
        reason = ""
        if self.download:
            try:
                self._fetch_missing()
            except OSError as error:
                reason = f" and could not be fetched ({' '.join(str(error).split())})"
        for name, path in self._paths(reason).items():
            self._read_verified(name, path)

    def place(self, files: Iterable[Path]) -> None:
        """Put official files, or those in the official archive, where they are looked for.

        Raises:
            ValueError: A file is neither; files before it have been placed.
        """
        for path in files:
            content = path.read_bytes()
            parts = list(self.unpack(content))
            if not parts:
                raise ValueError(
                    f"{path} is no official file of {self.name} (MD5 {md5(content)}), or it is "
                    f"truncated; get it again"
                )
            for name, part in parts:
                self._write(name, part)

    def faults(self) -> Iterator[str]:
        """What is wrong with the files, a line each; nothing is fetched."""
        if missing := self._missing():
            yield self._not_found(missing)
        for name in self.checksums:
            try:
                if path := self._find(name):
                    self._read_verified(name, path)
            except ValueError as error:
                yield str(error)

    def content(self, name: str) -> bytes:
        """Verified content of an official file; nothing is fetched.

        Raises:
            FileNotFoundError: Files are missing.
            ValueError: The file is not the one that its name says.
        """
        return self._read_verified(name, self._paths()[name])

    def _find(self, name: str) -> Path | None:
        paths = (self.root / folder / name for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    def _missing(self) -> list[str]:
        return [name for name in self.checksums if self._find(name) is None]

    def _paths(self, reason: str = "") -> dict[str, Path]:
        if missing := self._missing():
            raise FileNotFoundError(self._not_found(missing, reason))
        found = {name: self._find(name) for name in self.checksums}
        return {name: path for name, path in found.items() if path is not None}

    def _not_found(self, missing: list[str], reason: str = "") -> str:
        *others, last = (str(self.root / folder) for folder in self.folders)
        return (
            f"{self.name}: {', '.join(missing)} not found in {', '.join(others)} or {last}"
            f"{reason}; put the files there, or name the folder that has them with "
            f"--data.init_args.root or the environment variable {ROOT_VARIABLE}"
        )

    def _fetch_missing(self) -> None:
        missing = self._missing()
        for name, content in self.fetch(missing) if missing else ():
            if self._find(name) is None:
                self._write(name, content)

    def _write(self, name: str, content: bytes) -> None:
        path = self._find(name) or self.root / self.folders[0] / name
        if not path.is_file() or path.read_bytes() != content:
            with whole_file(path) as aside:
                aside.write_bytes(content)

    def _read_verified(self, name: str, path: Path) -> bytes:
        content = path.read_bytes()
        found, expected = md5(content), self.checksums[name]
        if found != expected:
            raise ValueError(
                f"{path} {self._fault(content, found)} (MD5 {found}, official {expected}); replace "
                f"it by the official file, or delete it to have it downloaded"
            )
        return content

    def _fault(self, content: bytes, found: str) -> str:
        other = next((name for name, known in self.checksums.items() if known == found), None)
        if other is not None:
            return f"is really {other}"
        return "is truncated" if self.is_truncated(content) else "is not the official file"


def fetch_verified(urls: Iterable[str], checksum: str) -> bytes:
    """Fetch the file with this MD5 sum from the first of `urls` that has it.

    Raises:
        ConnectionError: None has; the message says why of each.
    """
    reasons = []
    for url in urls:
        rank_zero_info(f"Downloading {url}")
        try:
            with urlopen(url, timeout=SECONDS_WITHOUT_ANSWER) as response:
                content: bytes = response.read()
        except (OSError, HTTPException) as error:
            reasons.append(f"{url}: {getattr(error, 'reason', error)}")
            continue
        if md5(content) == checksum:
            return content
        reasons.append(f"{url}: sent something else")
    raise ConnectionError("; ".join(reasons))


def md5(content: bytes) -> str:
    """MD5 sum of `content`, as hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
