"""What a table is: published numbers and the configs that reproduce them."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from experiments.compose import ConfigError


@dataclass(frozen=True)
class Column:
    """A column of published numbers.

    Attributes:
        name: Key of the column in every row's values.
        unit: Unit of its numbers (`percent`, `points`, `M`, ...).
        meaning: What is measured, in words.
        better: `higher`, `lower` or None.
        empty: Why its cells without a number are empty, where the row gives no reason of its own.
    """

    name: str
    unit: str
    meaning: str
    better: str | None
    empty: str | None = None

    @property
    def scale(self) -> float:
        """Factor from a run record's metric, where rates are fractions, to the column's unit."""
        return 100.0 if self.unit in ("percent", "AP") else 1.0


class Expected(NamedTuple):
    """How far below and above the published number a reproduced one may lie, in its unit."""

    below: float
    above: float


@dataclass(frozen=True)
class RowSpec:
    """A row: what was published, and the config that reproduces it.

    Attributes:
        key: Name of the row in its table.
        label: The row as a reader would name it.
        config: Config file of the row, None if the suite does not reproduce it.
        name: Name of the row's runs (the config's path below `configs/`), None without a config.
        over: Key of the row that its gain is measured over, None for the table's.
        variant: Published facts that tell the row from the others.
        values: Published number of every column; None is an empty cell.
        expected: What is expected of the row in a column, where it is not what is expected of all.
        computed_otherwise: Columns whose published number is not that of the network that was
            published, with the reason.
        notes: Remarks on the row.
        empty: Why a cell is empty, by column; for the others the column says it.
    """

    key: str
    label: str
    config: Path | None
    name: str | None
    over: str | None
    variant: Mapping[str, Any]
    values: Mapping[str, float | None]
    expected: Mapping[str, Expected]
    computed_otherwise: Mapping[str, str]
    notes: tuple[str, ...]
    empty: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GainSpec:
    """Gain over one of the rows.

    Attributes:
        over: Key of that row; None if only rows that name one themselves have a gain.
        column: Column of the published gains; None where only the rows themselves were published,
            whose difference the published gain then is.
    """

    over: str | None = None
    column: str | None = None


@dataclass(frozen=True)
class Reproduction:
    """What a run has to say about the table.

    Attributes:
        metric: The run record's metric that is compared.
        complement: Whether the column has one minus the metric: errors, where the metric counts
            what is right.
        quantity: What that is, in words (axis label).
        column: The column of published numbers that its mean over the seeds stands beside.
        runs: Columns of the published single runs, none where only a mean was published.
        gain: The published gain, None if the table has none.
        expected: How far from the published numbers the reproduced ones may lie; None where the
            runs' spread says it.
        also: Further columns of the table that its runs have something to say about.
    """

    metric: str
    complement: bool
    quantity: str
    column: str
    runs: tuple[str, ...]
    gain: GainSpec | None
    expected: Expected | None
    also: tuple["Reproduction", ...]


@dataclass(frozen=True)
class TableSpec:
    """A table file, checked.

    Attributes:
        file: Where it was read.
        id: Name of the table, the file's stem.
        title: What the table compares.
        paper: Title, authors, venue, year, and arXiv number where known.
        source: Where the numbers were published.
        dataset: Data set the numbers refer to.
        protocol: Published facts on training and evaluation that the rows share.
        columns: The published columns.
        rows: The rows.
        reproduce: What is compared with them, None if nothing can be.
        computed: Dotted name of the function that computes a row's columns from its `variant`, in
            a table of definitions; None in a table of results.
        notes: Facts that apply to the whole table.
        doubts: Open questions about what was published.
        remarks: Reasons for differences between the published and the reproduced numbers.
    """

    file: Path
    id: str
    title: str
    paper: Mapping[str, Any]
    source: tuple[str, ...]
    dataset: str
    protocol: Mapping[str, Any]
    columns: tuple[Column, ...]
    rows: tuple[RowSpec, ...]
    reproduce: Reproduction | None
    computed: str | None
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    remarks: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(column for column in self.columns if column.name == name)

    def decimals(self, name: str) -> int:
        """Most decimals of a published number in the column `name`."""
        shown = (repr(row.values[name]) for row in self.rows if row.values[name] is not None)
        return max((len(number.partition(".")[2]) for number in shown), default=0)

    def reason(self, row: RowSpec, name: str) -> str | None:
        """Why the cell of `row` in the column `name` is empty; None if it has a number.

        None as well where neither row nor column says why.
        """
        if row.values[name] is not None:
            return None
        return row.empty.get(name) or self.column(name).empty

    def empty_cells(self) -> tuple[str, ...]:
        """Why cells are empty, a line for each reason: columns, rows that say it, and why."""
        columns: dict[tuple[str, str], list[str]] = {}
        for column in self.columns:
            rows = [row for row in self.rows if row.values[column.name] is None]
            said: dict[str, list[str]] = {}
            for row in rows:
                if reason := row.empty.get(column.name):
                    said.setdefault(reason, []).append(row.label)
            for reason, labels in said.items():
                columns.setdefault((f" of {'; '.join(labels)}", reason), []).append(column.name)
            if column.empty and any(column.name not in row.empty for row in rows):
                others = " of the other rows" if said else ""
                columns.setdefault((others, column.empty), []).append(column.name)
        return tuple(f"{', '.join(names)}{of}: {why}" for (of, why), names in columns.items())

    def baseline(self, row: RowSpec) -> RowSpec | None:
        """The row that the gain of `row` is measured over, None if it has none."""
        gain = self.reproduce.gain if self.reproduce else None
        over = row.over or gain.over if gain else None
        if over is None or over == row.key:
            return None
        return next(other for other in self.rows if other.key == over)

    def select(self, keys: Sequence[str] | None) -> tuple[RowSpec, ...]:
        """The rows with these keys that the suite can train; all of them for None.

        Raises:
            ConfigError: The table has no such row, or the row has no config.
        """
        rows = {row.key: row for row in self.rows}
        for key in keys or ():
            if key not in rows:
                raise ConfigError(f"{self.id} has no row {key!r}{nearest(key, rows)}")
            if rows[key].config is None:
                raise ConfigError(f"{self.file}: row {key} has no config, so it cannot be trained")
        return tuple(row for row in self.rows if row.config and (keys is None or row.key in keys))


def nearest(name: str, known: Iterable[str]) -> str:
    """A question to end an error with: the known name that was probably meant, if any."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
