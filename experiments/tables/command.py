"""`python -m experiments table ...`: list, show, run, report and check."""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from experiments.command_parser import CommandParser
from experiments.tables.check import finding_columns, findings
from experiments.tables.comparison import Comparison, compare
from experiments.tables.listing import list_tables
from experiments.tables.reports.committed import RESULTS
from experiments.tables.reports.report import FORMATS, write_report
from experiments.tables.running.plan_output import show_plan
from experiments.tables.running.planning import Request, Task, plan_runs
from experiments.tables.running.pool import Pool
from experiments.tables.running.processes import LocalProcess
from experiments.tables.spec import TableSpec
from experiments.tables.static import columns_of_rows, defined_values
from experiments.tables.table_files import load_table
from experiments.tables.terminal import print_comparison, print_grid, print_static, say

WIDTH_OF_FILES = 240


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
        list_tables(console, given.runs)
        return 0
    if given.command == "show":
        return _show(console, given.id)
    if given.command == "run":
        return _run(console, given, options)
    if given.command == "check":
        return _check(console, given)
    return _report(console, given)


def _show(console: Console, name: str) -> int:
    table = load_table(name)
    rows, hidden = len(table.rows), not console.is_terminal
    every = columns_of_rows(table.rows)
    words = f"computing {rows} rows"
    computed = list(
        track(every, words, total=rows, console=console, transient=True, disable=hidden)
    )
    print_static(console, table, computed, defined_values(table))
    return 0


def _run(console: Console, given: argparse.Namespace, options: Sequence[str]) -> int:
    table = load_table(given.id)
    request = Request(table, given.runs, given.recipe, tuple(options))
    request.check()
    tasks = plan_runs(request, table.select(given.rows), given.seeds, given.first_seed)
    show_plan(request, tasks, console, given.jobs or 1)
    if given.dry_run:
        return 0
    if given.launcher == "slurm":
        from experiments.tables.running.launching import submit

        return submit(request, tasks, given.jobs, given.sbatch, console)
    status = _train(request, tasks, given, console)
    if status == 0:
        words = ["python", "-m", "experiments", "table", "report", table.id]
        words += [] if given.runs == Path("runs") else ["--runs", str(given.runs)]
        words += ["--recipe", str(given.recipe)] if given.recipe else []
        say(console, f"the results: {shlex.join(words)}")
    return status


def _train(
    request: Request, tasks: Sequence[Task], given: argparse.Namespace, console: Console
) -> int:
    # A polite kill is a Ctrl-C: the runs that are under way write their records and end.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start, in_job = LocalProcess, given.launcher == "step"
    if in_job:
        from experiments.tables.running.launching import JobStep

        start = JobStep
    # In a job nobody waits: what others are making they will finish.
    return Pool(request, tasks, console, jobs=given.jobs or 1, waits=not in_job, start=start).run()


def _report(console: Console, given: argparse.Namespace) -> int:
    comparisons = []
    # All tables are read before the first is written: a wrong name writes nothing.
    for table in [load_table(name) for name in given.ids]:
        comparison = _compare(table, given)
        print_comparison(console, comparison)
        for file in write_report(comparison, given.out / comparison.name, given.formats):
            say(console, f"wrote {file}")
        comparisons.append(comparison)
    if given.html is not None:
        from experiments.tables.page.document import write_page

        write_page(comparisons, given.html, base=given.base)
        say(console, f"wrote {given.html}")
    return 0


def _compare(table: TableSpec, given: argparse.Namespace) -> Comparison:
    return compare(table, given.runs, recipe=given.recipe, committed=RESULTS, costs=True)


def _check(console: Console, given: argparse.Namespace) -> int:
    status = 0
    for table in [load_table(name) for name in given.ids]:
        comparison = _compare(table, given)
        found = findings(comparison, given.require_runs)
        if found:
            print_grid(console, finding_columns(found), table.id)
        failed = sum(finding.fails for finding in found)
        say(console, f"{table.id}: {len(found)} numbers checked, {failed} not as expected")
        status = max(status, int(failed > 0))
    return status


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
    run.add_argument("--first-seed", type=int, metavar="N", help="(default: the row's config's)")
    run.add_argument(
        "--recipe", type=Path, metavar="FILE", help="a config above the rows': runs kept apart"
    )
    run.add_argument(
        "--jobs", type=_positive, metavar="N", help="runs at once (default 1; slurm: all)"
    )
    run.add_argument(
        "--launcher",
        choices=("local", "slurm", "step"),
        default="local",
        help="here, as a SLURM array job, or as steps of the SLURM job that this runs in",
    )
    run.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="with slurm, such as --sbatch=--time=24:00:00; may be repeated",
    )
    report = add("report", "published beside reproduced, as files", table=False)
    report.add_argument("--out", type=Path, default=RESULTS, help="(default results)")
    report.add_argument(
        "--formats", nargs="+", choices=FORMATS, default=FORMATS, help="(default all)"
    )
    report.add_argument("--html", type=Path, metavar="FILE", help="one page of all these tables")
    report.add_argument(
        "--base", metavar="URL", help="with --html, link configs below it (default: where they lie)"
    )
    check = add("check", "fail where a number is not as expected", table=False)
    check.add_argument(
        "--require-runs", action="store_true", help="fail where a published row was not run"
    )
    for command in (report, check):
        command.add_argument("ids", metavar="ID", nargs="+", help="names of tables (`table list`)")
        command.add_argument(
            "--recipe", type=Path, metavar="FILE", help="the runs under it, not under the rows' own"
        )
    for command in (every, run, report, check):
        command.add_argument("--runs", type=Path, default=Path("runs"), help="(default runs)")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)
