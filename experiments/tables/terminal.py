"""The table commands' output on the terminal."""

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from experiments.tables.cells import (
    CellColumn,
    comparison_columns,
    defined_columns,
    published_columns,
    speed_cells,
    static_cells,
)
from experiments.tables.comparison import Comparison
from experiments.tables.reports.footnotes import deviations, footnotes
from experiments.tables.spec import TableSpec
from experiments.tables.static import StaticColumns

# What words are broken to at least.
_LEAST_WORDS = 20


def say(console: Console, text: str) -> None:
    """Print a line as it is; a long one is left to the terminal to break."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_grid(console: Console, columns: Iterable[CellColumn], title: str = "") -> None:
    """Print columns beside each other, or below each other where that fits and this does not.

    Numbers are never cut off: a table that fits neither way is as wide as it has to be.
    """
    columns = list(columns)
    wide, tall = _grid(columns, title), _grid(_transposed(columns), title)
    chosen = tall if _width(console, wide) > console.width >= _width(console, tall) else wide
    before, console.width = console.width, max(console.width, _width(console, chosen))
    console.print(chosen)
    console.width = before


def print_groups(console: Console, groups: Mapping[str, Sequence[CellColumn]]) -> None:
    """Print grids with the same columns below each other, each under its title.

    Numbers are never cut off; the columns of words share what width is left.
    """
    columns = list(zip(*groups.values(), strict=True))
    widths = [
        max(len(text) for part in parts for text in (part.header, *part.cells)) for parts in columns
    ]
    # A space on both sides of a cell, and a line between two of them.
    spare = console.width - sum(widths) - 3 * len(widths) - 1
    words = [place for place, parts in enumerate(columns) if parts[0].words]
    for place in words:
        widths[place] = max(_LEAST_WORDS, widths[place] + min(0, spare // len(words)))
    before, console.width = console.width, max(console.width, sum(widths) + 3 * len(widths) + 1)
    for title, group in groups.items():
        grid = _grid(group, title)
        for column, width in zip(grid.columns, widths, strict=True):
            column.width = width
        console.print(grid)
    console.width = before


def _grid(columns: Sequence[CellColumn], title: str) -> Table:
    grid = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
    for place, column in enumerate(columns):
        whole = place == 0 or not column.words
        header = column.header.replace(" (", "\n(").replace(", ", ",\n")
        grid.add_column(
            Text(header),
            justify="right" if place > 0 and whole else "left",
            no_wrap=whole,
            min_width=max(map(len, [*column.cells, *header.splitlines()])) if whole else None,
            overflow="fold",
        )
    toned = ([*map(Text, column.cells, _styles(column))] for column in columns)
    for cells in zip(*toned, strict=True):
        grid.add_row(*cells)
    return grid


def _styles(column: CellColumn) -> list[str]:
    tones = column.tones or [""] * len(column.cells)
    return ["bold red" if tone == "bad" else "" for tone in tones]


def _transposed(columns: Sequence[CellColumn]) -> list[CellColumn]:
    first, *others = columns
    titles = CellColumn(first.header, [column.header for column in others])
    rows = zip(*(column.cells for column in others), strict=True)
    tones = zip(*(column.tones or [""] * len(first.cells) for column in others), strict=True)
    words = any(column.words for column in others)
    return [
        titles,
        *(
            CellColumn(name, list(row), words, tone)
            for name, row, tone in zip(first.cells, rows, tones, strict=True)
        ),
    ]


def _width(console: Console, grid: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), grid).minimum


def print_static(
    console: Console,
    table: TableSpec,
    computed: Sequence[StaticColumns | None],
    defined: Mapping[str, Mapping[str, float]],
) -> None:
    """Print the published numbers, and beside them what is computed without training.

    Args:
        console: Where to print.
        table: The table.
        computed: Each row's computed columns, None for a row without a config.
        defined: What definitions give for the published columns, by row.
    """
    columns = [
        CellColumn("", [row.label for row in table.rows]),
        *published_columns(table),
        *defined_columns(table, defined),
        *static_cells(computed),
        *speed_cells(table.rows),
    ]
    print_grid(console, columns, table.title)
    if any(computed):
        say(
            console,
            "Published numbers first. Computed here: parameters and forward multiply-adds for one "
            "image; fused is the deployed network. Milliseconds and images/s are measured.",
        )
    if defined:
        say(console, "Published numbers first, then the same as the definitions give them.")
    say(console, f"Paper: {reference(table)}")
    say(console, f"Source: {'; '.join(table.source)}")
    of_rows = (f"{row.label}: {note}" for row in table.rows for note in row.notes)
    words = {
        "Empty cells": table.empty_cells(),
        "Notes": (*table.notes, *of_rows),
        "Doubts": table.doubts,
    }
    for heading, lines in words.items():
        if lines:
            say(console, "\n".join([f"{heading}:", *(f"  - {line}" for line in lines)]))


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print published numbers beside reproduced ones, and the runs that do not count."""
    print_grid(console, comparison_columns(comparison), comparison.table.title)
    for line in [*footnotes(comparison), *deviations(comparison)]:
        say(console, line)
    for row in comparison.rows:
        for left in row.left_out:
            run = f"{row.row.key} seed {left.record.seed} ({left.record.folder.name})"
            say(console, f"not counted: {run}: {left.why}")


def reference(table: TableSpec) -> str:
    """The paper in one line."""
    paper = table.paper
    authors = paper["authors"] or []
    names = f"{authors[0]} et al.: " if len(authors) > 1 else "".join(f"{a}: " for a in authors)
    arxiv = f", arXiv {paper['arxiv']}" if paper.get("arxiv") else ""
    return f"{names}{paper['title']}, {paper['venue']} {paper['year']}{arxiv}"
