"""`python -m experiments table ...`: list, show, run and report."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.command_parser import CommandParser
from experiments.tables.cells import CellColumn
from experiments.tables.comparison import compare
from experiments.tables.report import write_report
from experiments.tables.rows import gather_runs
from experiments.tables.running import plan_runs, run_plan, show_plan
from experiments.tables.static import defined_values, static_columns
from experiments.tables.table_files import find_tables, load_table, read_table
from experiments.tables.terminal import print_comparison, print_grid, print_static, say

WIDTH_OF_FILES = 240
SET_HERE = ("--config", "-c", "--seed_everything", "--runs")


def main(arguments: Sequence[str]) -> int:
    """Run a table command; returns its exit status.

    Args:
        arguments: `table`, then `list`, `show ID`, `run ID` or `report ID` and their options.

    Raises:
        ConfigError: There is no such table or row, or a table file is wrong.
        SystemExit: The command line is wrong.
    """
    words, options = list(arguments[1:]), []
    if "--" in words:
        split = words.index("--")
        words, options = words[:split], words[split + 1 :]
    given = _parser().parse_args(words)
    if options and given.command != "run":
        raise SystemExit(f"table {given.command} takes no options after --")
    # In a file or a pipe there is no edge to keep clear of.
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_FILES)
    if given.command == "list":
        return _list(console, given.runs)
    if given.command == "show":
        return _show(console, given.id)
    if given.command == "run":
        return _run(console, given, options)
    return _report(console, given.id, given.runs, given.out)


def _list(console: Console, runs: Path) -> int:
    tables = [read_table(file) for file in find_tables()]
    done = []
    for table in tables:
        metric = table.reproduce.metric if table.reproduce else None
        rows = table.select(None)
        finished = sum(bool(gather_runs(row, runs, metric).counted) for row in rows)
        done.append(f"{finished} of {len(rows)}")
    columns = [
        CellColumn("table", [table.id for table in tables]),
        CellColumn("title", [table.title for table in tables], words=True),
        CellColumn("rows", [str(len(table.rows)) for table in tables]),
        CellColumn("finished", done),
    ]
    print_grid(console, columns)
    return 0


def _show(console: Console, name: str) -> int:
    table = load_table(name)
    computed = [static_columns(row.config) if row.config else None for row in table.rows]
    print_static(console, table, computed, defined_values(table))
    return 0


def _run(console: Console, given: argparse.Namespace, options: Sequence[str]) -> int:
    for option in options:
        if option.partition("=")[0] in SET_HERE:
            raise SystemExit(f"{option} does not belong after --: `table run` sets it")
    table = load_table(given.id)
    tasks = plan_runs(table, table.select(given.rows), given.seeds, given.runs)
    show_plan(table, tasks, options, console)
    if given.dry_run:
        return 0
    # A polite kill is a Ctrl-C: the run that is under way writes its record and ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    status = run_plan(table, tasks, given.runs, options, console)
    if status == 0:
        where = [] if given.runs == Path("runs") else ["--runs", str(given.runs)]
        words = ["python", "-m", "experiments", "table", "report", table.id, *where]
        say(console, f"the results: {shlex.join(words)}")
    return status


def _report(console: Console, name: str, runs: Path, out: Path) -> int:
    comparison = compare(load_table(name), runs)
    print_comparison(console, comparison)
    for file in write_report(comparison, out / comparison.table.id):
        say(console, f"wrote {file}")
    return 0


def _parser() -> argparse.ArgumentParser:
    program = "python -m experiments table"
    parser = CommandParser(prog=program, description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str, *, table: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=summary, description=summary, allow_abbrev=False, prog=f"{program} {name}"
        )
        if table:
            command.add_argument("id", metavar="ID", help="name of the table (`table list`)")
        return command

    every = add("list", "all tables and how far they are reproduced", table=False)
    add("show", "published numbers and what is computed without training")
    run = add("run", "train what is missing; options of `fit` may follow after --")
    run.add_argument("--seeds", type=_positive, default=1, help="seeds for each row (default 1)")
    run.add_argument("--rows", nargs="+", metavar="KEY", help="only these rows")
    run.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    report = add("report", "published beside reproduced, as Markdown, CSV and plot")
    report.add_argument("--out", type=Path, default=Path("results"), help="(default results)")
    for command in (every, run, report):
        command.add_argument("--runs", type=Path, default=Path("runs"), help="(default runs)")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seeds")
    return int(text)
