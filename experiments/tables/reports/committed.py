"""The runs that are committed, and so known in a fresh clone: `results/<table>/runs.csv`."""

from pathlib import Path

from experiments.tables.reports.runs_file import FILE_NAME, CommittedRun, config_digest, read_runs
from experiments.tables.spec import TableSpec

RESULTS = Path("results")


def committed_runs(table: TableSpec, results: Path = RESULTS) -> list[CommittedRun]:
    """The committed runs that were made from the configs which the table's rows have now.

    Args:
        table: The table.
        results: Folder of all reports.

    Raises:
        ConfigError: A row's config is wrong.
        ValueError: The table's file of runs cannot be read.
    """
    rows = {row.key: row for row in table.select(None)}
    runs = [run for run in read_runs(results / table.id / FILE_NAME) if run.row in rows]
    now = {key: config_digest(rows[key]) for key in {run.row for run in runs}}
    return [run for run in runs if run.config == now[run.row]]
