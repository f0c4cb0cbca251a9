"""The speed table's files: `speed.csv`, a line for each item and allocator, and `speed.md`."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path

from experiments.tables.cells import CellColumn
from experiments.whole_file import whole_file

UNITS = {
    "times as fast": "x",
    "times the time": "x the time",
    "times the memory": "x the memory",
    "us a step": "us a step",
}


@dataclass(frozen=True)
class SpeedLine:
    """A measured item, as text.

    Attributes:
        item: Its name.
        group: Its heading.
        title: What was measured, on what.
        against: What it was measured against.
        allocator: default or tuned.
        target: What it should come to.
        value: What it came to: the median over the rounds.
        iqr: Distance of its quartiles over the rounds.
        unit: What both count.
        reached: yes or no.
        ours: The suite's own time or memory.
        reference: That of what it was measured against.
        measured_in: Unit of these two.
        rounds: Number of rounds.
        threads: CPU threads of torch.
        machine: Name of the CPU, number of its cores.
        versions: Of Python, torch and timm.
        commit: The suite's commit; `+changes` where files differed from it.
        command: Measures it again.
    """

    item: str
    group: str
    title: str
    against: str
    allocator: str
    target: str
    value: str
    iqr: str
    unit: str
    reached: str
    ours: str
    reference: str
    measured_in: str
    rounds: str
    threads: str
    machine: str
    versions: str
    commit: str
    command: str


COLUMNS = [field.name for field in fields(SpeedLine)]


def update_table(folder: Path, lines: Iterable[SpeedLine], order: Iterable[str]) -> list[Path]:
    """Put lines into the table, each in the place of an earlier one; return the files written.

    Args:
        folder: Where the table is, or will be.
        lines: What was measured.
        order: Names of all items, as they are to follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, text = folder / "speed.csv", folder / "speed.md"
    kept = {(line.item, line.allocator): line for line in read_table(table)}
    kept |= {(line.item, line.allocator): line for line in lines}
    places = {name: place for place, name in enumerate(order)}
    rows = sorted(kept.values(), key=lambda line: (places.get(line.item, -1), line.allocator))
    with whole_file(table) as aside, aside.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(vars(line) for line in rows)
    with whole_file(text) as aside:
        aside.write_text(as_markdown(rows), encoding="utf-8")
    return [table, text]


def read_table(file: Path) -> list[SpeedLine]:
    """Read a speed table; there may be none yet."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        return [SpeedLine(*(cells[name] for name in COLUMNS)) for cells in csv.DictReader(stream)]


def columns(lines: Iterable[SpeedLine]) -> list[CellColumn]:
    """The table as a reader wants it."""
    lines = list(lines)
    return [
        CellColumn("item", [line.item for line in lines]),
        CellColumn("measured", [line.title for line in lines], words=True),
        CellColumn("against", [line.against for line in lines], words=True),
        CellColumn("allocator", [line.allocator for line in lines]),
        CellColumn("target", [line.target for line in lines]),
        CellColumn("value", [f"{line.value} {UNITS[line.unit]}" for line in lines]),
        CellColumn("IQR", [line.iqr for line in lines]),
        CellColumn("reached", [line.reached for line in lines]),
        CellColumn("ours", [f"{line.ours} {line.measured_in}" for line in lines]),
        CellColumn("reference", [f"{line.reference} {line.measured_in}" for line in lines]),
    ]


def as_markdown(lines: Iterable[SpeedLine]) -> str:
    """The table as Markdown: a section for each group, then how it was made."""
    lines = list(lines)
    parts = [
        "# Speed",
        "Each item is timed against its reference in one process, in interleaved rounds; values "
        "are medians over the rounds of the ratio (or difference) of both times in a round, IQR is "
        "the distance of its quartiles. x: times as fast as the reference. The allocator is "
        "glibc's: default, or tuned to keep the memory that it was given.",
    ]
    for group, members in groupby(lines, key=lambda line: line.group):
        parts += [f"## {group}", _grid(columns(members))]
    parts.append("## How it was made")
    made = groupby(lines, key=lambda line: (line.machine, line.threads, line.versions, line.commit))
    for (machine, threads, versions, commit), members in made:
        commands = dict.fromkeys(line.command for line in members)
        parts.append(
            f"{machine}, {threads} threads; {versions}; commit {commit}:\n\n```bash\n"
            + "\n".join(commands)
            + "\n```"
        )
    return "\n\n".join(parts) + "\n"


def _grid(shown: Iterable[CellColumn]) -> str:
    shown = list(shown)
    rows = [
        [column.header for column in shown],
        ["---" for _ in shown],
        *zip(*(column.cells for column in shown), strict=True),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
