"""Where the page's links lead: config files and run records, relative to the page."""

import os
from pathlib import Path
from urllib.parse import quote

from experiments.record import FILE_NAME, RunRecord
from experiments.tables.reports.runs_file import FILE_NAME as RUNS_FILE


class Links:
    """Links of a page.

    Args:
        page: The page's file.
        base: Address that the configs are found below, such as that of a repository on the web;
            None: they are linked where they lie.
    """

    def __init__(self, page: Path, base: str | None = None) -> None:
        self._folder = page.resolve().parent
        self._base = base

    def config(self, config: Path) -> str:
        """Address of a config file, whose path is relative to the repository's root folder."""
        if self._base is not None:
            return f"{self._base.rstrip('/')}/{quote(config.as_posix())}"
        return self.file(config)

    def record(self, record: RunRecord) -> str:
        """Address of a run's record; of a committed report's runs, the file that has its line."""
        file = record.folder / FILE_NAME
        return self.file(file if file.is_file() else record.folder.parent / RUNS_FILE)

    def file(self, path: Path) -> str:
        """Relative address of a file."""
        return quote(Path(os.path.relpath(path.resolve(), self._folder)).as_posix())
