"""`table list`: all tables, grouped by paper, and how far each is reproduced."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.tables.cells import CellColumn
from experiments.tables.reports.committed import committed_runs
from experiments.tables.rows import gather_runs
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.table_files import find_tables, read_table
from experiments.tables.terminal import print_groups, reference, say


def list_tables(console: Console, runs: Path) -> None:
    """Print all tables.

    Args:
        console: Where.
        runs: Folder of all runs.

    Raises:
        ConfigError: A table file, or the config of a row that has runs, is wrong.
    """
    papers: dict[str, list[TableSpec]] = {}
    for file in find_tables():
        table = read_table(file)
        papers.setdefault(reference(table), []).append(table)
    print_groups(
        console, {paper: _columns(tables, runs) for paper, tables in sorted(papers.items())}
    )
    say(
        console,
        f"finished: rows with a run that counts below {runs}/, of those that can be trained. "
        "committed: rows with runs in results/. The other rows are published, or computed, only.",
    )


def _columns(tables: Sequence[TableSpec], runs: Path) -> list[CellColumn]:
    rows = [table.select(None) for table in tables]
    committed = [len({run.row for run in committed_runs(table)}) for table in tables]
    finished = [
        sum(_has_finished(table, row, runs) for row in trainable)
        for table, trainable in zip(tables, rows, strict=True)
    ]
    totals = [len(trainable) for trainable in rows]
    published = [len(table.rows) - n for table, n in zip(tables, totals, strict=True)]
    return [
        CellColumn("table", [table.id for table in tables]),
        CellColumn("title", [table.title for table in tables], words=True),
        CellColumn("rows", [str(len(table.rows)) for table in tables]),
        CellColumn("not trained", [str(n or "") for n in published]),
        CellColumn("finished", [_part(n, of) for n, of in zip(finished, totals, strict=True)]),
        CellColumn("committed", [_part(n, of) for n, of in zip(committed, totals, strict=True)]),
    ]


def _part(number: int, of: int) -> str:
    return f"{number} of {of}" if of else ""


def _has_finished(table: TableSpec, row: RowSpec, runs: Path) -> bool:
    assert row.name is not None
    # Most rows have no run at all, and their configs need not be read.
    if not (runs / row.name).is_dir():
        return False
    metric = table.reproduce.metric if table.reproduce else None
    return bool(gather_runs(row, runs, metric).counted)
