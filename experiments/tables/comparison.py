"""A table's published numbers beside those of the runs that count: what every report shows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from experiments.compose import ConfigError
from experiments.record import RunRecord
from experiments.tables.rows import LeftOut, gather_runs, metric_of
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.statistics import Interval, Summary, summarise, welch_interval

# Run records hold fractions, tables percent: factor from a record's metric to a column's unit.
UNITS = {"percent": 100.0}


class Gain(NamedTuple):
    """Difference of two rows' means, and its interval (None: too few runs, or no spread)."""

    difference: float
    interval: Interval | None


@dataclass(frozen=True)
class RowComparison:
    """One row, published and reproduced; numbers in the unit of the compared column.

    Attributes:
        row: The row.
        published: The published number, None for an empty cell.
        published_runs: The published single runs.
        published_gain: The published gain, None for an empty cell.
        records: The runs that count, by seed.
        left_out: The runs that do not, with the reasons.
        values: The runs' metric, in the order of `records`.
        summary: Mean, standard deviation and n of `values`, None without runs.
        gain: Gain over the table's baseline, None without runs on either side.
    """

    row: RowSpec
    published: float | None
    published_runs: tuple[float, ...]
    published_gain: float | None
    records: tuple[RunRecord, ...]
    left_out: tuple[LeftOut, ...]
    values: tuple[float, ...]
    summary: Summary | None
    gain: Gain | None

    @property
    def published_summary(self) -> Summary | None:
        """Mean and standard deviation of the published runs, None without any."""
        return summarise(self.published_runs)

    @property
    def difference(self) -> float | None:
        """Reproduced minus published, None where one of them is missing."""
        if self.summary is None or self.published is None:
            return None
        return self.summary.mean - self.published


@dataclass(frozen=True)
class Comparison:
    """A table and its rows, published and reproduced."""

    table: TableSpec
    rows: tuple[RowComparison, ...]

    @property
    def unit(self) -> str:
        """Unit of the compared numbers."""
        assert self.table.reproduce is not None
        return self.table.column(self.table.reproduce.column).unit

    @property
    def decimals(self) -> int:
        """Decimals to show of compared numbers, two at least."""
        assert self.table.reproduce is not None
        return max(2, self.table.decimals(self.table.reproduce.column))

    @property
    def records(self) -> list[RunRecord]:
        """All runs that count."""
        return [record for row in self.rows for record in row.records]


def compare(table: TableSpec, runs: Path) -> Comparison:
    """Put a table's published numbers beside those of its runs.

    Args:
        table: The table.
        runs: Folder of all runs.

    Raises:
        ConfigError: The table does not say what is reproduced, or a row's config is wrong.
    """
    if table.reproduce is None:
        raise ConfigError(f"{table.file}: no `reproduce:` says which metric stands beside a column")
    found = {row.key: _of_row(table, row, runs) for row in table.rows}
    rows = []
    for row in found.values():
        baseline = table.baseline(row.row)
        gain = _gain(row.values, found[baseline.key].values) if baseline else None
        rows.append(replace(row, gain=gain))
    return Comparison(table, tuple(rows))


def measured(table: TableSpec, record: RunRecord) -> float | None:
    """A run's metric in the unit of the column it is compared with, None if it has none."""
    if table.reproduce is None:
        return None
    value = metric_of(record, table.reproduce.metric)
    if value is None:
        return None
    if table.reproduce.complement:
        value = 1.0 - value
    return value * UNITS.get(table.column(table.reproduce.column).unit, 1.0)


def _of_row(table: TableSpec, row: RowSpec, runs: Path) -> RowComparison:
    assert table.reproduce is not None
    reproduce = table.reproduce
    found = gather_runs(row, runs, reproduce.metric) if row.config else None
    records = tuple(found.counted.values()) if found else ()
    values = tuple(value for r in records if (value := measured(table, r)) is not None)
    single = (row.values[column] for column in reproduce.runs)
    return RowComparison(
        row=row,
        published=row.values[reproduce.column],
        published_runs=tuple(value for value in single if value is not None),
        published_gain=_published_gain(table, row),
        records=records,
        left_out=found.left_out if found else (),
        values=values,
        summary=summarise(values),
        gain=None,
    )


def _published_gain(table: TableSpec, row: RowSpec) -> float | None:
    assert table.reproduce is not None
    gain, column = table.reproduce.gain, table.reproduce.column
    if gain is not None and gain.column is not None:
        return row.values[gain.column]
    baseline = table.baseline(row)
    if baseline is None:
        return None
    above, below = row.values[column], baseline.values[column]
    return None if above is None or below is None else above - below


def _gain(values: Sequence[float], baseline: Sequence[float]) -> Gain | None:
    mean, below = summarise(values), summarise(baseline)
    if mean is None or below is None:
        return None
    return Gain(mean.mean - below.mean, welch_interval(values, baseline))
