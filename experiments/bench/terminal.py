"""A ledger's new lines on the terminal."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from experiments.bench.ledger import Line, circumstances, per_second, three_digits
from experiments.tables.cells import CellColumn
from experiments.tables.terminal import print_grid, say

WIDTH_OF_FILES = 240  # nothing is broken where there is no terminal
FORMS = {"yes": "fused", "no": "unfused", "": ""}


def print_lines(lines: Sequence[Line], file: Path) -> None:
    """Print lines of one ledger as a table, and where they are kept.

    Args:
        lines: What was measured; one line at least.
        file: The ledger.
    """
    console = output()
    first = lines[0]
    columns = [
        CellColumn("", [line.subject for line in lines]),
        CellColumn("form", [FORMS[line.fused] for line in lines], words=True),
        CellColumn("batch", [str(line.batch) for line in lines]),
        CellColumn("size", [line.size for line in lines]),
        CellColumn("ms (median)", [three_digits(line.median_ms) for line in lines]),
        CellColumn("IQR", [three_digits(line.iqr_ms) for line in lines]),
        CellColumn("images/s", [per_second(line.images_per_second) for line in lines]),
        CellColumn("peak MiB", [f"{line.peak_mib:.1f}" for line in lines]),
    ]
    if first.baseline:
        ratios = ["" if line.ratio is None else f"{line.ratio:.2f}" for line in lines]
        columns.append(CellColumn(f"times as fast as {first.baseline}", ratios))
    print_grid(console, columns, f"{first.what}, {circumstances(first)}")
    say(
        console,
        f"{first.rounds} interleaved rounds; IQR: distance of the quartiles; peak: most memory "
        "held during a call beyond what stays (weights, gradients, moments)",
    )
    say(console, f"kept in {file}")


def output() -> Console:
    """Where results are printed."""
    return Console() if sys.stdout.isatty() else Console(width=WIDTH_OF_FILES)


def shown(rounds: Sequence[int], title: str) -> Iterable[int]:
    """The rounds, with a bar that shows how far they are and is gone afterwards."""
    console = Console(stderr=True)
    hidden = not console.is_terminal
    return track(rounds, title, console=console, transient=True, disable=hidden)
