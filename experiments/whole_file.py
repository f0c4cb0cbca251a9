"""Writing files that are never seen half written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, aside, which becomes `path` once everything is written.

    Whatever is raised inside, `path` stays as it was and nothing is left beside it.

    Args:
        path: The file to make or replace; its folder exists.
    """
    aside = path.with_name(f".{path.name}.writing")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
