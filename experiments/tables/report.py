"""`table report`: the files `report.md`, `runs.csv` and `plot.png` of a comparison."""

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from experiments.record import RunRecord
from experiments.tables.cells import CellColumn, comparison_columns, footnotes, seeds_in_words
from experiments.tables.comparison import Comparison
from experiments.tables.plot import write_plot
from experiments.tables.spec import TableSpec
from experiments.tables.terminal import reference

# Columns of runs.csv after row and seed and before the metrics, and after them: header and the
# keys that lead to the fact in the run record.
OUTCOME = {
    "epochs": ("epochs",),
    "seconds": ("seconds",),
    "images_per_second": ("images_per_second",),
}
ORIGIN = {
    "run_id": ("run_id",),
    "started": ("started",),
    "commit": ("git", "commit"),
    "dirty": ("git", "dirty"),
    "cpu": ("hardware", "cpu"),
    "cores": ("hardware", "cores"),
    "threads": ("hardware", "threads"),
    "gpus": ("hardware", "gpus"),
    "devices": ("devices", "world_size"),
    "precision": ("devices", "precision"),
    "data_sha256": ("data", "sha256"),
}


def write_report(comparison: Comparison, folder: Path) -> list[Path]:
    """Write a comparison's report, its runs and its plot.

    Args:
        comparison: What to write about.
        folder: Where; made if it is not there.

    Returns:
        The files.

    Raises:
        ValueError: No run counts yet.
    """
    if not comparison.records:
        raise ValueError(
            f"no run of {comparison.table.id} counts yet; train with: "
            f"python -m experiments table run {comparison.table.id} --seeds 5"
        )
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("report.md", "runs.csv", "plot.png")]
    files[0].write_text(as_markdown(comparison), encoding="utf-8")
    write_runs(comparison, files[1])
    write_plot(comparison, files[2])
    return files


def as_markdown(comparison: Comparison) -> str:
    """The report as Markdown."""
    table = comparison.table
    parts = [
        f"# {table.title}",
        f"Paper: {reference(table)}.",
        f"Numbers: {'; '.join(table.source)}.",
        _markdown_table(comparison_columns(comparison)),
        _list(footnotes(comparison)),
        "![Published and reproduced numbers of every row](plot.png)",
        "Every run: [runs.csv](runs.csv) (metrics as recorded: accuracies from 0 to 1).",
    ]
    sections = {
        "Remarks": table.remarks,
        "How it was made": how_it_was_made(comparison),
        "Runs that do not count": _left_out(comparison),
        "What is known of the published runs": _facts(table),
    }
    for title, lines in sections.items():
        if lines:
            parts += [f"## {title}", _list(lines)]
    return "\n\n".join(parts) + "\n"


def how_it_was_made(comparison: Comparison) -> list[str]:
    """Commands, seeds, data, hardware and versions of the runs, as their records have them."""
    lines = []
    for row in comparison.rows:
        if row.records:
            seeds = [record.seed for record in row.records if record.seed is not None]
            command = f"python -m experiments fit --config {row.row.config} --seed_everything SEED"
            lines.append(f"{row.row.label}: `{command}`, seeds {seeds_in_words(seeds)}")
    most = max(len(row.records) for row in comparison.rows)
    lines.append(
        "all that is missing, one after another: "
        f"`python -m experiments table run {comparison.table.id} --seeds {most}`"
    )
    described: dict[str, Callable[[RunRecord], str]] = {
        "data": _data,
        "hardware": _hardware,
        "versions": _versions,
        "commit": _commit,
    }
    for name, describe in described.items():
        if text := _tally(describe(record) for record in comparison.records):
            lines.append(f"{name}: {text}")
    if time := _time(comparison.records):
        lines.append(f"time: {time}")
    return lines


def write_runs(comparison: Comparison, file: Path) -> None:
    """Write one line for each run that counts, facts as recorded; a missing one is empty."""
    records = comparison.records
    metrics = sorted({name for record in records for name in _metrics(record)})
    packages = list(dict.fromkeys(p for r in records for p in r.facts.get("versions", {})))
    header = ["row", "seed", *metrics, *OUTCOME, *ORIGIN, *packages]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        for row in comparison.rows:
            for record in row.records:
                found = _metrics(record)
                writer.writerow(
                    [
                        row.row.key,
                        record.seed,
                        *(found.get(name) for name in metrics),
                        *(_cell(record, keys) for keys in (*OUTCOME.values(), *ORIGIN.values())),
                        *(_cell(record, ("versions", package)) for package in packages),
                    ]
                )


def _metrics(record: RunRecord) -> dict[str, float]:
    metrics: dict[str, float] = record.facts.get("metrics", {}).get("test", {})
    return metrics


def _fact(record: RunRecord, *keys: str) -> Any:
    value: Any = record.facts
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _cell(record: RunRecord, keys: Sequence[str]) -> Any:
    value = _fact(record, *keys)
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _data(record: RunRecord) -> str:
    data = record.facts.get("data") or {}
    if not data:
        return ""
    counts = ", ".join(f"{data[key]:,} {key}" for key in ("train", "val", "test") if data.get(key))
    return f"{data.get('name')} ({counts} images), SHA-256 {data.get('sha256')}"


def _hardware(record: RunRecord) -> str:
    hardware = record.facts.get("hardware") or {}
    if not hardware:
        return ""
    gpus = Counter(hardware.get("gpus") or []).items()
    graphics = ", ".join(f"{number} x {name}" for name, number in gpus) or "no GPU"
    devices = _fact(record, "devices", "world_size")
    trained_on = f", trained on {devices} devices" if devices and devices > 1 else ""
    return (
        f"{hardware.get('cpu')}, cores: {hardware.get('cores')}, threads: "
        f"{hardware.get('threads')}, {graphics}{trained_on}"
    )


def _versions(record: RunRecord) -> str:
    return ", ".join(f"{name} {v}" for name, v in record.facts.get("versions", {}).items())


def _commit(record: RunRecord) -> str:
    commit = _fact(record, "git", "commit")
    if not commit:
        return "unknown"
    return f"{commit[:12]}{' with uncommitted changes' if _fact(record, 'git', 'dirty') else ''}"


def _tally(texts: Iterable[str]) -> str:
    counted = Counter(text for text in texts if text)
    if len(counted) < 2:
        return next(iter(counted), "")
    return "; ".join(f"{text} ({_runs(number)})" for text, number in counted.items())


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"


def _time(records: Sequence[RunRecord]) -> str:
    seconds = [record.facts["seconds"] for record in records if record.facts.get("seconds")]
    return f"{sum(seconds) / 60:.1f} minutes for {_runs(len(seconds))}" if seconds else ""


def _left_out(comparison: Comparison) -> list[str]:
    # Without the words of a failed run: they may name places of the machine it ran on.
    reasons: Counter[str] = Counter()
    for row in comparison.rows:
        for left in row.left_out:
            why = left.why if left.record.state == "finished" else left.record.state
            reasons[f"{row.row.label}: {why}"] += 1
    return [f"{why} ({_runs(number)})" for why, number in reasons.items()]


def _facts(table: TableSpec) -> list[str]:
    protocol = [
        f"{key.replace('_', ' ')}: {'not published' if value is None else value}"
        for key, value in table.protocol.items()
    ]
    notes = [f"row {row.label}: {note}" for row in table.rows for note in row.notes]
    doubts = [f"doubt: {doubt}" for doubt in table.doubts]
    return [f"data set: {table.dataset}", *protocol, *table.notes, *notes, *doubts]


def _markdown_table(columns: Iterable[CellColumn]) -> str:
    columns = list(columns)
    header = [column.header for column in columns]
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    rows = zip(*(column.cells for column in columns), strict=True)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
