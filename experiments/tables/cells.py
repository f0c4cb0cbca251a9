"""A comparison as text, column by column: the same cells for the terminal and for Markdown."""

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import NamedTuple

from experiments.tables.comparison import Comparison, Gain, RowComparison
from experiments.tables.expectation import Band
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.speed import speed_columns
from experiments.tables.static import StaticColumns
from experiments.tables.statistics import Interval, Summary

UNIT_SIGNS = {"percent": "%"}


class CellColumn(NamedTuple):
    """A column to print: its header and one cell for each row; an empty cell is `""`.

    Words may be broken into several lines, numbers may not. A cell whose tone is `bad` stands out.
    """

    header: str
    cells: list[str]
    words: bool = False
    tones: Sequence[str] = ()


def published_columns(table: TableSpec, without: Container[str] = ()) -> list[CellColumn]:
    """The published numbers as they were typed, a column's all with as many decimals."""
    return [
        CellColumn(
            f"{column.name} ({UNIT_SIGNS.get(column.unit, column.unit)})",
            [number(row.values[column.name], table.decimals(column.name)) for row in table.rows],
        )
        for column in table.columns
        if column.name not in without
    ]


def defined_columns(
    table: TableSpec, values: Mapping[str, Mapping[str, float]]
) -> Iterator[CellColumn]:
    """What definitions give for the published columns, with as many decimals."""
    for column in table.columns:
        cells = [
            number(values.get(row.key, {}).get(column.name), table.decimals(column.name))
            for row in table.rows
        ]
        if any(cells):
            yield CellColumn(f"{column.name}, computed ({column.unit})", cells)


def static_cells(computed: Sequence[StaticColumns | None]) -> Iterator[CellColumn]:
    """What each row's network costs; None for a row without a config."""
    if not any(computed):
        return
    for header, key in (
        ("parameters (training)", "training"),
        ("parameters (fused)", "fused"),
        ("multiply-adds (fused)", "multiply_adds"),
    ):
        yield CellColumn(header, [count(getattr(c, key)) if c else "" for c in computed])


def comparison_columns(comparison: Comparison) -> list[CellColumn]:
    """Published beside reproduced: means, spreads, verdicts, gains, and what a network costs.

    A column without any cell is left out.
    """
    rows, every = comparison.rows, (comparison, *comparison.also)
    columns = [CellColumn("", [row.row.label for row in rows])]
    if comparison.reproduce:
        columns += _compared(comparison, f"{comparison.reproduce.column}: " if every[1:] else "")
        columns += _gains(comparison)
    for one in comparison.also:
        assert one.reproduce is not None
        columns += _compared(one, f"{one.reproduce.column}: ")
    shown = {name for one in every for name in _names_of_columns(one)}
    columns += published_columns(comparison.table, without=shown)
    columns += defined_columns(comparison.table, comparison.defined)
    columns += _costs(rows)
    columns += speed_cells([row.row for row in rows])
    return [column for column in columns if any(column.cells)]


def speed_cells(rows: Sequence[RowSpec]) -> list[CellColumn]:
    """How fast the rows are, on the hardware that the headers name."""
    columns = speed_columns([row.name for row in rows])
    return [CellColumn(header, cells) for header, cells in columns.items()]


def _compared(comparison: Comparison, prefix: str) -> Iterator[CellColumn]:
    """The columns of one compared column, with the verdicts once there are runs."""
    rows, decimals = comparison.rows, comparison.decimals
    unit = UNIT_SIGNS.get(comparison.unit, comparison.unit)
    tones = ["bad" if row.verdict.outside else "" for row in rows]
    yield CellColumn(f"{prefix}published ({unit})", [_published(row, decimals) for row in rows])
    reproduced = [_with_spread(row.summary, decimals) for row in rows]
    yield CellColumn(f"{prefix}reproduced ({unit})", reproduced, tones=tones)
    yield CellColumn(f"{prefix}n", [str(row.summary.n) if row.summary else "" for row in rows])
    differences = [number(row.difference, decimals, "+") for row in rows]
    yield CellColumn(f"{prefix}difference", differences, tones=tones)
    judged = [row if row.summary else None for row in rows]
    bands = [interval_text(row.band, decimals) if row and row.band else "" for row in judged]
    yield CellColumn(f"{prefix}expected ({unit})", bands)
    verdicts = [row.verdict.value if row and row.band else "" for row in judged]
    yield CellColumn(f"{prefix}verdict", verdicts, tones=tones)


def _gains(comparison: Comparison) -> Iterator[CellColumn]:
    rows, decimals = comparison.rows, comparison.decimals
    reproduce = comparison.reproduce
    if reproduce is None or reproduce.gain is None:
        return
    gain_decimals = comparison.table.decimals(reproduce.gain.column or reproduce.column)
    published = [number(row.published_gain, gain_decimals, "+") for row in rows]
    yield CellColumn("published gain", published)
    gains = [row.gain for row in rows]
    differences = [number(gain.difference if gain else None, decimals, "+") for gain in gains]
    yield CellColumn("gain", differences)
    yield CellColumn("gain (95 % interval)", [_interval(gain, decimals) for gain in gains])
    paired = [gain.paired if gain else None for gain in gains]
    cells = [_paired(row, decimals) for row in rows]
    yield CellColumn("paired (95 % interval)", cells)
    yield CellColumn("pairs", [str(one.n) if one else "" for one in paired])
    yield CellColumn("p (paired)", [_probability(one.p) if one else "" for one in paired])


def _names_of_columns(comparison: Comparison) -> Iterator[str]:
    """The published columns that a comparison shows."""
    if (reproduce := comparison.reproduce) is not None:
        yield from (reproduce.column, *reproduce.runs)
        if reproduce.gain and reproduce.gain.column:
            yield reproduce.gain.column


def _costs(rows: Sequence[RowComparison]) -> Iterator[CellColumn]:
    if any(row.costs for row in rows):
        yield from static_cells([row.costs for row in rows])
        return
    for title, key in (("parameters (training)", "training"), ("parameters (fused)", "fused")):
        yield CellColumn(title, [_parameters(row, key) for row in rows])


def number(value: float | None, decimals: int, sign: str = "") -> str:
    """A number with that many decimals; with sign `+` it shows its sign; None is empty."""
    return "" if value is None else f"{value:{sign}.{decimals}f}"


def count(value: int | None) -> str:
    """A whole number in groups of three digits; None is empty."""
    return "" if value is None else f"{value:,}"


def interval_text(interval: Interval | Band, decimals: int, sign: str = "") -> str:
    """`low to high`, both with that many decimals."""
    low, high = (number(end, decimals, sign) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def seeds_in_words(seeds: Sequence[int]) -> str:
    """`2020 to 2024` for seeds in a row, else all of them."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def _with_spread(summary: Summary | None, decimals: int) -> str:
    if summary is None:
        return ""
    spread = number(summary.deviation, decimals)
    return number(summary.mean, decimals) + (f" ± {spread}" if spread else "")


def _published(row: RowComparison, decimals: int) -> str:
    if row.published is None and row.target is not None:
        return f"({number(row.target, decimals)})"
    text = number(row.published, decimals)
    spread = row.published_summary.deviation if row.published_summary else None
    return f"{text} ± {number(spread, decimals)}" if text and spread is not None else text


def _interval(gain: Gain | None, decimals: int) -> str:
    if gain is None:
        return ""
    return "none" if gain.interval is None else interval_text(gain.interval, decimals, "+")


def _paired(row: RowComparison, decimals: int) -> str:
    if row.gain is None or row.gain.paired is None:
        return ""
    paired = row.gain.paired
    difference = number(paired.difference, decimals, "+")
    same = difference == number(row.gain.difference, decimals, "+")
    return ("" if same else f"{difference}, ") + interval_text(paired.interval, decimals, "+")


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _parameters(row: RowComparison, key: str) -> str:
    # The newest seed's record speaks for the row: its config is the same for all of them.
    if not row.records:
        return ""
    return count(row.records[-1].facts.get("parameters", {}).get(key))
