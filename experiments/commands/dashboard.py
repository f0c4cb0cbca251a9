"""`dashboard`: all runs at one glance, as one HTML page or in W&B."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments.command_parser import CommandParser


def main(arguments: Sequence[str]) -> int:
    """Make a dashboard; returns the exit status.

    Args:
        arguments: `dashboard`, then `html` or `wandb` and their options.

    Raises:
        ConfigError: A table file or a row's config is wrong.
        SystemExit: The command line is wrong.
    """
    words = list(arguments[1:])
    if words[:1] == ["wandb"]:
        from experiments.commands import wandb_dashboard

        return wandb_dashboard.main(arguments)
    given = _parser().parse_args(words)
    return _html(given.runs, given.out or given.runs / "dashboard.html", given.base)


def _html(runs: Path, file: Path, base: str | None) -> int:
    # Imported here: help is answered without.
    from experiments.tables.page.choice import other_runs, with_runs
    from experiments.tables.page.document import write_page
    from experiments.tables.table_files import find_tables, read_table

    if not runs.is_dir():
        raise SystemExit(f"no folder {runs}; train a row first, or name the folder with --runs")
    tables = [read_table(table) for table in find_tables()]
    comparisons = [one for table in tables for one in with_runs(table, runs)]
    others = other_runs(runs, comparisons)
    write_page(comparisons, file, others=others, base=base)
    print(f"tables with runs: {len(comparisons)}, runs of no table: {len(others)}")
    print(f"wrote {file}")
    return 0


def _parser() -> argparse.ArgumentParser:
    program = "python -m experiments dashboard"
    parser = CommandParser(prog=program, description=__doc__, allow_abbrev=False)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    summary = "one self-contained page: tables with runs, and runs of no table"
    html = kinds.add_parser(
        "html", help=summary, description=summary, allow_abbrev=False, prog=f"{program} html"
    )
    html.add_argument("--runs", type=Path, default=Path("runs"), help="(default runs)")
    html.add_argument("--out", type=Path, help="(default dashboard.html among the runs)")
    html.add_argument(
        "--base", metavar="URL", help="link configs below it (default: where they lie)"
    )
    kinds.add_parser("wandb", help="a W&B workspace or report of a table (wandb --help)")
    return parser
