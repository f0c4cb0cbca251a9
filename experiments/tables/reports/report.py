"""`table report`: the files of a comparison, and its text `report.md`."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from experiments.record import RunRecord
from experiments.tables.cells import CellColumn, comparison_columns, seeds_in_words
from experiments.tables.comparison import Comparison
from experiments.tables.reports.family_plot import draw_family
from experiments.tables.reports.figures import save_figure
from experiments.tables.reports.footnotes import deviations, footnotes
from experiments.tables.reports.latex import as_latex
from experiments.tables.reports.plot import draw_comparison
from experiments.tables.reports.runs_file import FILE_NAME, fact, write_runs
from experiments.tables.reports.table_csv import write_table_csv
from experiments.tables.spec import TableSpec
from experiments.tables.terminal import reference

FORMATS = ("md", "csv", "tex", "png", "svg")
PICTURES = ("png", "svg")
PICTURED = {
    "plot": "Published and reproduced numbers of every row",
    "parameters": "Published and reproduced numbers against parameters",
    "multiply_adds": "Published and reproduced numbers against multiply-adds",
    "time": "Published and reproduced numbers against measured time",
}


def write_report(
    comparison: Comparison, folder: Path, formats: Collection[str] = FORMATS
) -> list[Path]:
    """Write a comparison's report, its runs and its plots.

    Args:
        comparison: What to write about, with costs.
        folder: Where; made if it is not there.
        formats: Which of `FORMATS`.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    pictures = _write_plots(comparison, folder, [f for f in PICTURES if f in formats])
    if "md" in formats:
        files.append(folder / "report.md")
        files[-1].write_text(as_markdown(comparison, pictures), encoding="utf-8")
    if "csv" in formats:
        files.append(folder / "table.csv")
        write_table_csv(comparison, files[-1])
        if comparison.records:
            files.append(folder / FILE_NAME)
            runs = [(row.row, row.records) for row in comparison.rows]
            also = [part.reproduce for part in (comparison, *comparison.also)]
            compared = [reproduce.metric for reproduce in also if reproduce]
            write_runs(runs, files[-1], comparison.recipe, compared)
    if "tex" in formats:
        files.append(folder / "table.tex")
        files[-1].write_text(as_latex(comparison), encoding="utf-8")
    return [*files, *pictures]


def _write_plots(comparison: Comparison, folder: Path, suffixes: Sequence[str]) -> list[Path]:
    if not suffixes:
        return []
    figures = {
        "plot": draw_comparison(comparison),
        "parameters": draw_family(comparison, "fused"),
        "multiply_adds": draw_family(comparison, "multiply_adds"),
        "time": draw_family(comparison, "time"),
    }
    files = []
    for name, figure in figures.items():
        if figure is not None:
            for suffix in suffixes:
                files.append(folder / f"{name}.{suffix}")
                save_figure(figure, files[-1])
    return files


def as_markdown(comparison: Comparison, pictures: Sequence[Path] = ()) -> str:
    """The report as Markdown, with links to the pictures and to the runs beside it."""
    table = comparison.table
    parts = [
        f"# {table.title}",
        f"Paper: {reference(table)}.",
        f"Numbers: {'; '.join(table.source)}.",
        _markdown_table(comparison_columns(comparison)),
        _list(footnotes(comparison)),
        *(f"![{PICTURED[stem]}]({name})" for stem, name in _one_of_each(pictures).items()),
    ]
    if comparison.records:
        parts.append(
            f"Every run: [{FILE_NAME}]({FILE_NAME}) (metrics as recorded: accuracies from 0 to 1)."
        )
    sections = {
        "Outside the expected": deviations(comparison),
        "Remarks": table.remarks,
        "How it was made": how_it_was_made(comparison),
        "Runs that do not count": _left_out(comparison),
        "What is known of the published runs": published_facts(table),
    }
    for title, lines in sections.items():
        if lines:
            parts += [f"## {title}", _list(lines)]
    return "\n\n".join(parts) + "\n"


def how_it_was_made(comparison: Comparison) -> list[str]:
    """Commands, seeds, data, hardware and versions of the runs, as their records have them."""
    if not any(row.row.config for row in comparison.rows):
        return []
    recipe = f" --recipe {comparison.recipe}" if comparison.recipe else ""
    lines = []
    for row in comparison.rows:
        if row.records:
            seeds = [record.seed for record in row.records if record.seed is not None]
            command = f"python -m experiments fit --config {row.row.config}{recipe}"
            command += " --seed_everything SEED"
            lines.append(f"{row.row.label}: `{command}`, seeds {seeds_in_words(seeds)}")
    most = max(len(row.records) for row in comparison.rows) or 1
    lines.append(
        "all that is missing, one after another: "
        f"`python -m experiments table run {comparison.table.id}{recipe} --seeds {most}`"
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


def _data(record: RunRecord) -> str:
    data = record.facts.get("data") or {}
    if not data:
        return ""
    counts = ", ".join(f"{data[key]:,} {key}" for key in ("train", "val", "test") if data.get(key))
    images = f" ({counts} images)" if counts else ""
    return f"{data.get('name', 'unnamed')}{images}, SHA-256 {data.get('sha256')}"


def _hardware(record: RunRecord) -> str:
    hardware = record.facts.get("hardware") or {}
    if not hardware:
        return ""
    gpus = Counter(hardware.get("gpus") or []).items()
    graphics = ", ".join(f"{number} x {name}" for name, number in gpus) or "no GPU"
    devices = fact(record, "devices", "world_size")
    trained_on = f", trained on {devices} devices" if devices and devices > 1 else ""
    return (
        f"{hardware.get('cpu')}, cores: {hardware.get('cores')}, threads: "
        f"{hardware.get('threads')}, {graphics}{trained_on}"
    )


def _versions(record: RunRecord) -> str:
    return ", ".join(f"{name} {v}" for name, v in record.facts.get("versions", {}).items())


def _commit(record: RunRecord) -> str:
    commit = fact(record, "git", "commit")
    if not commit:
        return "unknown"
    return f"{commit[:12]}{' with uncommitted changes' if fact(record, 'git', 'dirty') else ''}"


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


def published_facts(table: TableSpec) -> list[str]:
    """What is known of the published runs, and why cells of the table are empty."""
    protocol = [
        f"{key.replace('_', ' ')}: {'not published' if value is None else value}"
        for key, value in table.protocol.items()
    ]
    empty = [f"no number in {cells}" for cells in table.empty_cells()]
    notes = [f"row {row.label}: {note}" for row in table.rows for note in row.notes]
    doubts = [f"doubt: {doubt}" for doubt in table.doubts]
    return [f"data set: {table.dataset}", *protocol, *empty, *table.notes, *notes, *doubts]


def _one_of_each(pictures: Sequence[Path]) -> dict[str, str]:
    """Name of the first file of each picture, by what it shows."""
    return {picture.stem: picture.name for picture in reversed(pictures)}


def _markdown_table(columns: Sequence[CellColumn]) -> str:
    header = [column.header for column in columns]
    rule = ["---"] + ["---:"] * (len(columns) - 1)
    rows = zip(*map(_markdown_cells, columns), strict=True)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _markdown_cells(column: CellColumn) -> list[str]:
    cells = [cell.replace("|", "\\|") for cell in column.cells]
    tones = column.tones or [""] * len(cells)
    return [
        f"**{cell}**" if tone and cell else cell for cell, tone in zip(cells, tones, strict=True)
    ]


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
