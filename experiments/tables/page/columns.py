"""The columns of a table on the page: the report's cells, and why an empty one is empty."""

from collections.abc import Callable
from typing import NamedTuple

from experiments.tables.cells import UNIT_SIGNS, comparison_columns
from experiments.tables.comparison import Comparison, RowComparison


class Cell(NamedTuple):
    """A cell: what it shows, why that is empty or out of the ordinary, and whether it stands out.

    Attributes:
        text: What it shows; empty if there is nothing to show.
        why: Why it is empty, or what may explain it; None if nothing is known.
        mark: `above` or `below` for a number outside its expected band, else None.
    """

    text: str
    why: str | None
    mark: str | None


class PageColumn(NamedTuple):
    """A column: its header, what the header means, and a cell for each row."""

    header: str
    meaning: str | None
    cells: list[Cell]


def page_columns(comparison: Comparison) -> list[PageColumn]:
    """The columns of the report after the rows' names."""
    meanings = {
        f"{column.name} ({UNIT_SIGNS.get(column.unit, column.unit)})": column.meaning
        for column in comparison.table.columns
    }
    columns = []
    for column in comparison_columns(comparison)[1:]:
        why = _reason(comparison, column.header)
        cells = []
        tones = column.tones or [""] * len(column.cells)
        for row, text, tone in zip(comparison.rows, column.cells, tones, strict=True):
            if tone != "bad":
                shown = "" if text == "none" else text
                cells.append(Cell(shown, None if shown else why(row), None))
                continue
            mark = _direction(comparison, column.header, row)
            sign = {"above": "▲ ", "below": "▼ "}.get(mark, "")
            explained = "; ".join(row.explanations) or "nothing in the run records explains it"
            cells.append(Cell(sign + text, f"{mark} what is expected: {explained}", mark))
        columns.append(PageColumn(column.header, meanings.get(column.header), cells))
    return columns


def _direction(comparison: Comparison, header: str, row: RowComparison) -> str:
    place = comparison.rows.index(row)
    for one in comparison.also:
        assert one.reproduce is not None
        if header.startswith(f"{one.reproduce.column}: "):
            return one.rows[place].verdict.value
    return row.verdict.value


def _reason(comparison: Comparison, header: str) -> Callable[[RowComparison], str | None]:
    """What says why a row's cell below this header is empty."""
    table = comparison.table
    prefix, _, rest = header.rpartition(": ")
    for column in table.columns:
        if header == f"{column.name} ({UNIT_SIGNS.get(column.unit, column.unit)})":
            return lambda row: table.reason(row.row, column.name)
    if rest.startswith("published ("):
        names = [one.reproduce.column for one in (comparison, *comparison.also) if one.reproduce]
        name = prefix or names[0]
        return lambda row: table.reason(row.row, name) or "no published number was found"
    if header == "published gain":
        return lambda row: "no gain was published"
    if header.startswith(("parameters", "multiply-adds")):
        return lambda row: "the suite has no config of this row"
    if "gain" in header or header in ("pairs", "p (paired)"):
        return lambda row: why_no_gain(comparison, row)
    if ", batch " in header:
        return lambda row: "not timed there: python -m experiments bench"
    return why_not_run


def why_no_gain(comparison: Comparison, row: RowComparison) -> str:
    """Why no gain, or nothing about it, can be said."""
    baseline = comparison.table.baseline(row.row)
    if baseline is None:
        return "this row is not measured over another one"
    if row.gain is None:
        return f"{row.row.label} or {baseline.label} has no run that counts"
    return "takes two seeds of both rows, and a spread"


def why_not_run(row: RowComparison) -> str:
    """Why no reproduced number is there, or nothing to hold it against."""
    if row.row.config is None:
        return "the suite has no config of this row"
    if row.values:
        return "no published number, or nothing says how far runs spread"
    if row.left_out:
        return f"no run counts yet; the newest: {row.left_out[0].why}"
    return "not trained yet"
