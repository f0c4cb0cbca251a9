"""What the page of all runs shows: tables with runs, and the runs of no table."""

from collections.abc import Sequence
from pathlib import Path

from experiments.arguments import is_scale
from experiments.record import FILE_NAME, RunRecord
from experiments.tables.comparison import Comparison, compare
from experiments.tables.reports.committed import RESULTS
from experiments.tables.spec import TableSpec


def with_runs(table: TableSpec, runs: Path) -> list[Comparison]:
    """A table's comparisons that have runs: as it is, and under each recipe that was used.

    Runs of committed reports are among them.

    Args:
        table: The table.
        runs: Folder of all runs.

    Raises:
        ConfigError: A row's config or a recipe is wrong.
    """
    plain = compare(table, runs, committed=RESULTS)
    left_out = [left for row in plain.rows for left in row.left_out]
    if not plain.records and not left_out:
        return []
    recipes = sorted({recipe for left in left_out for recipe in _recipes(left.record)})
    found = [compare(table, runs, committed=RESULTS, costs=True)]
    for recipe in recipes:
        under = compare(table, runs, recipe=recipe, committed=RESULTS)
        if under.records:
            found.append(compare(table, runs, recipe=recipe, committed=RESULTS, costs=True))
    return found


def other_runs(runs: Path, comparisons: Sequence[Comparison]) -> list[RunRecord]:
    """The runs below a folder that none of the tables shows, by row, newest first.

    Args:
        runs: Folder of all runs.
        comparisons: The tables.
    """
    shown = {
        record.folder.resolve()
        for comparison in comparisons
        for row in comparison.rows
        for record in (*row.records, *(left.record for left in row.left_out))
    }
    folders = (file.parent for file in runs.rglob(FILE_NAME))
    records = (RunRecord.read(folder) for folder in folders if folder.resolve() not in shown)
    found = [record for record in records if record is not None]
    found.sort(key=lambda run: (str(run.facts.get("started")), run.folder.name), reverse=True)
    return sorted(found, key=lambda run: str(run.facts.get("row")))


def _recipes(record: RunRecord) -> list[Path]:
    """The config files above the row's that a run was given, as far as they are still there."""
    files = [Path(file) for file in record.facts.get("config", {}).get("files", [])[1:]]
    return [file for file in files if file.is_file() and not is_scale(file)]
