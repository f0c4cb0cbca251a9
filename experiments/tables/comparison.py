"""A table's published numbers beside those of the runs that count: what every report shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from experiments.record import RunRecord
from experiments.tables.expectation import Band, Verdict, expected_band, explanations, judge
from experiments.tables.reports.runs_file import FILE_NAME, CommittedRun, config_digest, read_runs
from experiments.tables.rows import LeftOut, gather_runs, metric_of
from experiments.tables.spec import Reproduction, RowSpec, TableSpec
from experiments.tables.static import StaticColumns, columns_of_rows, defined_values
from experiments.tables.statistics import (
    Interval,
    PairedDifference,
    Summary,
    paired_difference,
    summarise,
    welch_interval,
)


class Pool(NamedTuple):
    """Where runs are looked for, and under which recipe they count."""

    runs: Path
    recipe: Path | None
    committed: Sequence[CommittedRun]


class Gain(NamedTuple):
    """Difference of two rows' means.

    Attributes:
        difference: The difference.
        interval: Welch's interval; None for too few runs, or no spread.
        paired: The same over the seeds that both rows have; None for less than two, or no spread.
    """

    difference: float
    interval: Interval | None
    paired: PairedDifference | None


@dataclass(frozen=True)
class RowComparison:
    """One row, published and reproduced; numbers in the unit of the compared column.

    Attributes:
        row: The row.
        published: The published number, None for an empty cell.
        published_runs: The published single runs.
        published_gain: The published gain, None for an empty cell.
        target: What the row's mean is held against: the published number; where only a gain was
            published, the baseline's number and the gain; None without either.
        records: The runs that count, by seed.
        left_out: The runs that do not, with the reasons.
        values: The runs' metric, in the order of `records`.
        summary: Mean, standard deviation and n of `values`, None without runs.
        band: Where the mean is expected, None if nothing says so.
        verdict: How the mean stands to the band.
        explanations: What differs between these runs and the published ones.
        gain: Gain over the table's baseline, None without runs on either side.
        costs: What the row's network costs; None for a row without a config, or if not asked for.
    """

    row: RowSpec
    published: float | None
    published_runs: tuple[float, ...]
    published_gain: float | None
    target: float | None
    records: tuple[RunRecord, ...]
    left_out: tuple[LeftOut, ...]
    values: tuple[float, ...]
    summary: Summary | None
    band: Band | None
    verdict: Verdict
    explanations: tuple[str, ...]
    gain: Gain | None = None
    costs: StaticColumns | None = None

    @property
    def published_summary(self) -> Summary | None:
        """Mean and standard deviation of the published runs, None without any."""
        return summarise(self.published_runs)

    @property
    def difference(self) -> float | None:
        """Reproduced minus published, None where one of them is missing."""
        if self.summary is None or self.target is None:
            return None
        return self.summary.mean - self.target

    @property
    def by_seed(self) -> dict[int, float]:
        """Each run's number by its seed."""
        seeds = (record.seed for record in self.records)
        pairs = zip(seeds, self.values, strict=True)
        return {seed: value for seed, value in pairs if seed is not None}


@dataclass(frozen=True)
class Comparison:
    """A table and its rows, published and reproduced.

    Attributes:
        table: The table; its `reproduce` says what this comparison is of.
        rows: The rows.
        recipe: The recipe above the rows' configs, under which the runs count; None for the rows as
            they are.
        also: The same table compared in its further columns (top-5 beside top-1), one each.
        defined: What definitions give for the published columns of each row, by its key; empty for
            a table of results, or if not asked for.
    """

    table: TableSpec
    rows: tuple[RowComparison, ...]
    recipe: Path | None = None
    also: tuple["Comparison", ...] = ()
    defined: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the comparison's report: the table's, and the recipe's."""
        return report_name(self.table, self.recipe)

    @property
    def reproduce(self) -> Reproduction | None:
        """What is compared; None for a table that only has published and computed numbers."""
        return self.table.reproduce

    @property
    def unit(self) -> str:
        """Unit of the compared numbers."""
        return self.table.column(self.table.reproduce.column).unit if self.table.reproduce else ""

    @property
    def decimals(self) -> int:
        """Decimals to show of compared numbers, two at least."""
        reproduce = self.table.reproduce
        return max(2, self.table.decimals(reproduce.column)) if reproduce else 2

    @property
    def records(self) -> list[RunRecord]:
        """All runs that count."""
        return [record for row in self.rows for record in row.records]


def compare(
    table: TableSpec,
    runs: Path,
    *,
    recipe: Path | None = None,
    committed: Path | None = None,
    costs: bool = False,
) -> Comparison:
    """Put a table's published numbers beside those of its runs.

    Args:
        table: The table. One without `reproduce` has published and computed numbers only.
        runs: Folder of all runs.
        recipe: A recipe above the rows' configs: other runs count. None for the rows as they are.
        committed: Folder of committed reports, whose runs count for the seeds that `runs` has none
            of; None to look at `runs` alone.
        costs: Whether to give parameters and multiply-adds of every row (a row without a run is
            built for it, about a second each), and what definitions say.

    Raises:
        ConfigError: A row's config is wrong.
        ValueError: The runs of a committed report cannot be read.
    """
    reproduce = table.reproduce
    further = reproduce.also if reproduce else ()
    folder = committed / report_name(table, recipe) if committed else None
    pool = Pool(runs, recipe, read_runs(folder / FILE_NAME) if folder else [])
    also = tuple(_compare(replace(table, reproduce=one), pool) for one in further)
    comparison = replace(_compare(table, pool), recipe=recipe, also=also)
    if not costs:
        return comparison
    recorded = [_recorded_costs(row) for row in comparison.rows]
    counted = columns_of_rows(
        row for row, costs in zip(table.rows, recorded, strict=True) if not costs
    )
    rows = tuple(
        replace(row, costs=costs or next(counted))
        for row, costs in zip(comparison.rows, recorded, strict=True)
    )
    return replace(comparison, rows=rows, defined=defined_values(table))


def report_name(table: TableSpec, recipe: Path | None) -> str:
    """Name of the folder of a table's report; what runs under a recipe has one of its own."""
    return table.id if recipe is None else f"{table.id}.{recipe.stem}"


def measured(table: TableSpec, record: RunRecord) -> float | None:
    """A run's metric in the unit of the column it is compared with, None if it has none."""
    if table.reproduce is None:
        return None
    value = metric_of(record, table.reproduce.metric)
    if value is None:
        return None
    if table.reproduce.complement:
        value = 1.0 - value
    return value * table.column(table.reproduce.column).scale


def _compare(table: TableSpec, pool: Pool) -> Comparison:
    found = {row.key: _of_row(table, row, pool) for row in table.rows}
    rows = []
    for row in found.values():
        baseline = table.baseline(row.row)
        gain = _gain(row, found[baseline.key]) if baseline else None
        rows.append(replace(row, gain=gain))
    return Comparison(table, tuple(rows))


def _of_row(table: TableSpec, row: RowSpec, pool: Pool) -> RowComparison:
    reproduce = table.reproduce
    records, left_out = _runs_of(table, row, pool)
    values = tuple(value for r in records if (value := measured(table, r)) is not None)
    summary = summarise(values)
    single = (row.values[column] for column in reproduce.runs) if reproduce else ()
    published_runs = tuple(value for value in single if value is not None)
    published = row.values[reproduce.column] if reproduce else None
    published_gain = _published_gain(table, row)
    target = _target(table, row, published_gain)
    stated = row.expected.get(reproduce.column, reproduce.expected) if reproduce else None
    band = expected_band(stated, target, published_runs, summary)
    return RowComparison(
        row=row,
        published=published,
        published_runs=published_runs,
        published_gain=published_gain,
        target=target,
        records=records,
        left_out=left_out,
        values=values,
        summary=summary,
        band=band,
        verdict=judge(target, summary, band),
        explanations=explanations(table, row, records, pool.recipe),
    )


def _runs_of(
    table: TableSpec, row: RowSpec, pool: Pool
) -> tuple[tuple[RunRecord, ...], tuple[LeftOut, ...]]:
    """The runs that count by seed, committed ones where there is no other, and the rest."""
    if row.config is None or table.reproduce is None:
        return (), ()
    metric = table.reproduce.metric
    found = gather_runs(row, pool.runs, metric, pool.recipe)
    counted, left_out = dict(found.counted), list(found.left_out)
    committed = [run for run in pool.committed if run.row == row.key]
    now = config_digest(row, pool.recipe) if committed else ""
    for run in committed:
        seed = run.record.seed
        if seed is None or seed in counted or metric_of(run.record, metric) is None:
            continue
        if run.config == now:
            counted[seed] = run.record
        else:
            left_out.append(
                LeftOut(run.record, ("in a committed report, made from another config",))
            )
    return tuple(counted[seed] for seed in sorted(counted)), tuple(left_out)


def _published_gain(table: TableSpec, row: RowSpec) -> float | None:
    if table.reproduce is None:
        return None
    gain, column = table.reproduce.gain, table.reproduce.column
    if gain is not None and gain.column is not None:
        return row.values[gain.column]
    baseline = table.baseline(row)
    if baseline is None:
        return None
    above, below = row.values[column], baseline.values[column]
    return None if above is None or below is None else above - below


def _target(table: TableSpec, row: RowSpec, gain: float | None) -> float | None:
    if table.reproduce is None:
        return None
    column, baseline = table.reproduce.column, table.baseline(row)
    if (published := row.values[column]) is not None or baseline is None or gain is None:
        return published
    below = baseline.values[column]
    return None if below is None else below + gain


def _gain(row: RowComparison, baseline: RowComparison) -> Gain | None:
    if row.summary is None or baseline.summary is None:
        return None
    return Gain(
        row.summary.mean - baseline.summary.mean,
        welch_interval(row.values, baseline.values),
        paired_difference(row.by_seed, baseline.by_seed),
    )


def _recorded_costs(row: RowComparison) -> StaticColumns | None:
    """What the newest run's record says; None if it does not say all."""
    if not row.records:
        return None
    facts = row.records[-1].facts
    found = {**facts.get("parameters", {}), "multiply_adds": facts.get("multiply_adds")}
    numbers = [found.get(name) for name in StaticColumns._fields]
    if None in numbers:
        return None
    return StaticColumns(*(int(number) for number in numbers if number is not None))
