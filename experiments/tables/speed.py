"""Columns of measured speed: what the ledgers of `bench` hold on a table's rows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments.bench.ledger import (
    LEDGERS,
    Line,
    circumstances,
    per_second,
    read_ledger,
    three_digits,
)

WHATS = {"forward": "forward", "training": "forward + backward", "step": "training step"}


class _Column(NamedTuple):
    """What the lines of one column have in common, but for the hardware."""

    what: str
    unfused: bool
    circumstances: str
    batch: int
    size: str
    versions: str

    def header(self, with_size: bool, with_versions: bool) -> str:
        what = f"{WHATS[self.what]}{', unfused' if self.unfused else ''}"
        unit = "ms" if self.batch == 1 else "images/s"
        size = f", {self.size} px" if with_size else ""
        versions = f", {self.versions}" if with_versions else ""
        return f"{what} {unit}, {self.circumstances}, batch {self.batch}{size}{versions}"


def speed_columns(rows: Sequence[str | None], folder: Path = LEDGERS) -> dict[str, list[str]]:
    """Return columns by their headers, which name the hardware: one cell for each row.

    Batches of one image have their latency in milliseconds, larger ones their throughput in images
    per second. A network whose operators can be folded stands with its deployed form among the
    others, and with the one that is trained in a column `unfused` of its own. Columns without any
    cell are left out, and so are size and versions where the table has no others.

    Args:
        rows: Names of the rows, as in `RowSpec.name`.
        folder: Where the ledgers are.

    Raises:
        ConfigError: A ledger is damaged.
    """
    files = sorted(folder.glob("*-cpu_*.csv")) + sorted(folder.glob("*-cuda_*.csv"))
    lines = [line for file in files for line in read_ledger(file) if line.row in rows]
    columns: dict[_Column, dict[str, str]] = {}
    for line in lines:
        columns.setdefault(_column(line), {})[line.row] = _cell(line)
    sizes = {column.size for column in columns}
    versions = {column.versions for column in columns}
    return {
        column.header(len(sizes) > 1, len(versions) > 1): [cells.get(row or "", "") for row in rows]
        for column, cells in _sorted(columns.items())
    }


def times_of_images(
    rows: Sequence[str | None], folder: Path = LEDGERS
) -> tuple[str, dict[str, float]]:
    """Return where and how deployed networks were timed, and seconds for one image by row.

    Of all conditions those with the most rows are taken; there may be none.

    Args:
        rows: Names of the rows, as in `RowSpec.name`.
        folder: Where the ledgers are.

    Raises:
        ConfigError: A ledger is damaged.
    """
    times: dict[_Column, dict[str, float]] = {}
    for file in sorted(folder.glob("forward-*.csv")):
        for line in read_ledger(file):
            if line.row in rows and line.fused != "no":
                times.setdefault(_column(line), {})[line.row] = line.median_ms / 1000 / line.batch
    if not times:
        return "", {}
    column = max(times, key=lambda column: len(times[column]))
    return f"{column.circumstances}, batch {column.batch}", times[column]


def _sorted(
    columns: Iterable[tuple[_Column, dict[str, str]]],
) -> list[tuple[_Column, dict[str, str]]]:
    order = list(WHATS)
    return sorted(columns, key=lambda item: (order.index(item[0].what), *item[0][1:]))


def _column(line: Line) -> _Column:
    unfused = line.what == "forward" and line.fused == "no"
    where = circumstances(line)
    return _Column(line.what, unfused, where, line.batch, line.size, line.versions)


def _cell(line: Line) -> str:
    if line.batch == 1:
        return three_digits(line.median_ms)
    return per_second(line.images_per_second)
