"""A comparison as text, column by column: the same cells for the terminal and for Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from experiments.tables.comparison import Comparison, Gain, RowComparison
from experiments.tables.spec import TableSpec
from experiments.tables.static import StaticColumns
from experiments.tables.statistics import Summary

UNIT_SIGNS = {"percent": "%"}


class CellColumn(NamedTuple):
    """A column to print: its header and one cell for each row; an empty cell is `""`.

    Words may be broken into several lines, numbers may not.
    """

    header: str
    cells: list[str]
    words: bool = False


def published_columns(table: TableSpec) -> list[CellColumn]:
    """The published numbers as they were typed, a column's all with as many decimals."""
    return [
        CellColumn(
            f"{column.name} ({UNIT_SIGNS.get(column.unit, column.unit)})",
            [number(row.values[column.name], table.decimals(column.name)) for row in table.rows],
        )
        for column in table.columns
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


def comparison_columns(comparison: Comparison) -> Iterator[CellColumn]:
    """Published beside reproduced: means, spreads, gains and parameters."""
    rows, decimals = comparison.rows, comparison.decimals
    yield CellColumn("", [row.row.label for row in rows])
    published = [_published(row, decimals) for row in rows]
    unit = UNIT_SIGNS.get(comparison.unit, comparison.unit)
    yield CellColumn(f"published ({unit})", published)
    yield CellColumn(f"reproduced ({unit})", [_with_spread(row.summary, decimals) for row in rows])
    yield CellColumn("n", [str(row.summary.n) if row.summary else "" for row in rows])
    yield CellColumn("difference", [number(row.difference, decimals, "+") for row in rows])
    reproduce = comparison.table.reproduce
    if reproduce and reproduce.gain:
        gain_decimals = comparison.table.decimals(reproduce.gain.column or reproduce.column)
        gains = [number(row.published_gain, gain_decimals, "+") for row in rows]
        yield CellColumn("published gain", gains)
        differences = (row.gain.difference if row.gain else None for row in rows)
        yield CellColumn("gain", [number(gain, decimals, "+") for gain in differences])
        yield CellColumn("gain (95 % interval)", [_interval(row.gain, decimals) for row in rows])
    for title, key in (("parameters (training)", "training"), ("parameters (fused)", "fused")):
        yield CellColumn(title, [_parameters(row, key) for row in rows])


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader has to know about the columns."""
    reproduce = comparison.table.reproduce
    assert reproduce is not None
    meaning = comparison.table.column(reproduce.column).meaning
    metric = f"1 - {reproduce.metric}" if reproduce.complement else reproduce.metric
    lines = [
        f"{reproduce.quantity} ({metric}); published: {meaning}; reproduced: mean ± "
        "sample standard deviation of n runs with different seeds, after the last epoch"
    ]
    if any(row.published_summary for row in comparison.rows):
        lines.append("± beside a published number is computed from the published single runs")
    if reproduce.gain:
        table = comparison.table
        baselines = {row.label for each in table.rows if (row := table.baseline(each))}
        over = baselines.pop() if len(baselines) == 1 else "the row's own baseline"
        lines.append(
            f"gain: difference of the means over {over}, with its 95 % confidence interval "
            "(Welch's t); there is none for less than two runs on a side, or without any spread"
        )
    return lines


def number(value: float | None, decimals: int, sign: str = "") -> str:
    """A number with that many decimals; with sign `+` it shows its sign; None is empty."""
    return "" if value is None else f"{value:{sign}.{decimals}f}"


def count(value: int | None) -> str:
    """A whole number in groups of three digits; None is empty."""
    return "" if value is None else f"{value:,}"


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
    text = number(row.published, decimals)
    spread = row.published_summary.deviation if row.published_summary else None
    return f"{text} ± {number(spread, decimals)}" if text and spread is not None else text


def _interval(gain: Gain | None, decimals: int) -> str:
    if gain is None:
        return ""
    if gain.interval is None:
        return "none"
    low, high = (number(end, decimals, "+") for end in gain.interval)
    return f"{low} to {high}"


def _parameters(row: RowComparison, key: str) -> str:
    # The newest seed's record speaks for the row: its config is the same for all of them.
    if not row.records:
        return ""
    return count(row.records[-1].facts.get("parameters", {}).get(key))
