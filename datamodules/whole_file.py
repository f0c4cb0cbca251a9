"""Writing files that are either there as a whole or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to, aside, which becomes `path` once everything is written.

    Whatever is raised inside, `path` stays as it was and nothing is left beside it.

    Args:
        path: The file to make or replace; folders above it are made.
    """
    # Under a name of its own: several nodes may share the folder.
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
