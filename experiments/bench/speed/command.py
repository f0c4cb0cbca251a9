"""`bench speed`: measures the items of the speed table, and writes it."""

import argparse
import gc
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.bench.conditions import Conditions
from experiments.bench.ledger import commit, machine_name, three_digits, versions
from experiments.bench.options import add_common_options
from experiments.bench.speed.item import TUNED, Item, Measured, UnavailableError, allocator
from experiments.bench.speed.items import all_items
from experiments.bench.speed.table import SpeedLine, columns, update_table
from experiments.bench.terminal import output, shown
from experiments.command_parser import CommandParser
from experiments.compose import ConfigError
from experiments.environment import environment_facts
from experiments.quiet import quieten
from experiments.tables.cells import CellColumn
from experiments.tables.spec import nearest
from experiments.tables.terminal import print_grid, say

COMMAND = ["python", "-m", "experiments", "bench", "speed"]


def main(words: Sequence[str]) -> int:
    """Measure items, print and write what came out; returns the exit status.

    What glibc's tuned allocator is to be measured with runs in a process of its own, because an
    allocator is tuned when a process starts.

    Raises:
        ConfigError: There is no such item.
        SystemExit: The command line is wrong.
    """
    given = _parser().parse_args(words)
    items = all_items()
    if given.list:
        _list(items)
        return 0
    names = [item.name for item in items]
    for name in given.items:
        if name not in names:
            raise ConfigError(f"no item is called {name!r}{nearest(name, names)} (--list)")
    chosen = [item for item in items if not given.items or item.name in given.items]
    here = allocator()
    if given.allocator in (None, here):
        _measure([item for item in chosen if here in item.targets], given, names)
    if given.allocator != here == "default":
        tuned = [item.name for item in chosen if "tuned" in item.targets]
        return _in_tuned_process(tuned, given) if tuned else 0
    return 0


def _measure(items: Sequence[Item], given: argparse.Namespace, order: Sequence[str]) -> None:
    quieten()
    conditions = Conditions(threads=given.threads)
    facts, console = environment_facts(), output()
    lines = []
    for item in items:
        conditions.apply()
        try:
            measured = item.measure(shown(range(given.rounds), item.name))
        except UnavailableError as missing:
            say(console, f"{item.name} is left out: {missing}")
            continue
        finally:
            gc.collect()  # a network and its optimiser hold each other
        lines.append(_line(item, measured, given, facts, conditions))
        files = update_table(given.out, lines[-1:], order)
    if lines:
        print_grid(console, columns(lines))
        say(console, f"wrote {' and '.join(map(str, files))}")


def _line(
    item: Item,
    measured: Measured,
    given: argparse.Namespace,
    facts: Mapping[str, Any],
    conditions: Conditions,
) -> SpeedLine:
    target = item.targets[allocator()]
    words = [*COMMAND, item.name, "--rounds", str(given.rounds), "--threads", str(given.threads)]
    if allocator() == "tuned":
        words += ["--allocator", "tuned"]
    numbers = [three_digits(number) for number in measured]
    return SpeedLine(
        item=item.name,
        group=item.group,
        title=item.title,
        against=item.against,
        allocator=allocator(),
        target=str(target),
        value=numbers[0],
        iqr=numbers[1],
        unit=item.unit,
        reached="yes" if target.reached(measured.value) else "no",
        ours=numbers[2],
        reference=numbers[3],
        measured_in=item.measured_in,
        rounds=str(given.rounds),
        threads=str(given.threads),
        machine=f"{machine_name(conditions, facts)}, {facts['hardware']['cores']} cores",
        versions=versions(facts),
        commit=commit(facts),
        command=shlex.join(words),
    )


def _in_tuned_process(names: Sequence[str], given: argparse.Namespace) -> int:
    options = ["--rounds", str(given.rounds), "--threads", str(given.threads)]
    command = [sys.executable, *COMMAND[1:], *names, *options, "--out", str(given.out)]
    return subprocess.run(command, env={**os.environ, **TUNED}, check=False).returncode


def _list(items: Sequence[Item]) -> None:
    targets = [
        "; ".join(f"{target} ({name})" for name, target in item.targets.items()) for item in items
    ]
    shown_columns = [
        CellColumn("item", [item.name for item in items]),
        CellColumn("target (allocator)", targets),
        CellColumn("measured", [item.title for item in items], words=True),
        CellColumn("against", [item.against for item in items], words=True),
    ]
    print_grid(output(), shown_columns)


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=" ".join(COMMAND), description="What the suite's own forms gain.", allow_abbrev=False
    )
    parser.add_argument("items", nargs="*", metavar="ITEM", help="(default: all)")
    parser.add_argument("--list", action="store_true", help="print the items and their targets")
    parser.add_argument(
        "--allocator",
        choices=("default", "tuned"),
        help="glibc's (default: each item with those that it has a target for)",
    )
    add_common_options(parser)
    return parser
