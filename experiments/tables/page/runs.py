"""Runs on the page: their numbers, how they stand, and where they come from."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from xml.etree.ElementTree import Element

from experiments.record import RunRecord
from experiments.tables.cells import UNIT_SIGNS, count, number
from experiments.tables.comparison import Comparison, RowComparison, measured
from experiments.tables.page.elements import element, head, scrolling
from experiments.tables.page.links import Links
from experiments.tables.rows import metric_of

ORIGIN = ("epochs", "images/s", "seconds", "precision", "hardware", "commit", "run record")
METRIC = "test/acc1"


def runs_of_row(comparison: Comparison, row: RowComparison, links: Links) -> Element | None:
    """Every run of a row, those that do not count with the reason; None without any."""
    runs = [(record, "counts") for record in row.records]
    runs += [(left.record, f"does not count: {left.why}") for left in row.left_out]
    if not runs:
        return None
    metric = comparison.reproduce.column if comparison.reproduce else ""
    unit = UNIT_SIGNS.get(comparison.unit, comparison.unit)
    lines = []
    for record, state in runs:
        value = number(measured(comparison.table, record), comparison.decimals)
        lines.append(
            element(
                "tr",
                element("th", f"seed {record.seed}", scope="row"),
                element("td", value),
                element("td", state, class_="words"),
                *_origin(record, links),
                class_=None if state == "counts" else "left-out",
            )
        )
    header = head(["run", f"{metric} ({unit})", "state", *ORIGIN])
    return scrolling(element("table", header, element("tbody", *lines)), f"Runs of {row.row.label}")


def run_rows(records: Sequence[RunRecord], links: Links) -> Element:
    """Runs that belong to no table, each a row of its own that opens its curves and command."""
    names = ["row", "run", "state", METRIC, "parameters, training", "parameters, fused"]
    names += ["multiply-adds", *ORIGIN]
    bodies = [_run_row(record, links, len(names)) for record in records]
    table = element("table", head(names), *bodies, class_="results")
    return scrolling(table, "Runs of no table")


def run_id(record: RunRecord) -> str:
    """Where a link to a run of no table leads."""
    return f"{row_name(record)}/{record.folder.name}"


def row_name(record: RunRecord) -> str:
    """Name of the row that a run trained."""
    return str(record.facts.get("row"))


def _run_row(record: RunRecord, links: Links, columns: int) -> Element:
    facts, identity = record.facts, run_id(record)
    accuracy = metric_of(record, METRIC)
    parameters = facts.get("parameters") or {}
    why = facts.get("why")
    state = f"{record.state}: {why}" if why else record.state
    line = element(
        "tr",
        element("th", row_name(record), scope="row"),
        element("td", f"{facts.get('command')}, seed {record.seed}", class_="words"),
        element("td", state, class_="words"),
        _cell("" if accuracy is None else f"{100 * accuracy:.2f} %"),
        *(_cell(count(parameters.get(name))) for name in ("training", "fused")),
        _cell(count(facts.get("multiply_adds"))),
        *_origin(record, links),
    )
    config = record.folder / "config.yaml"
    command = f"python -m experiments fit --config {config.as_posix()}"
    detail = element(
        "div",
        element(
            "dl",
            element("dt", "config"),
            element("dd", element("a", config.as_posix(), href=links.file(config))),
            element("dt", "the same again"),
            element("dd", element("code", command, class_="command")),
        ),
        element("div", class_="plots"),
        class_="detail",
    )
    return element(
        "tbody",
        line,
        element(
            "tr",
            element("td", detail, class_="detail-cell", colspan=str(columns)),
            id=f"{identity}.detail",
        ),
        id=identity,
        data_label=f"{row_name(record)} seed {record.seed}",
        data_words=f"{row_name(record)} {record.folder.name} {record.state}",
        data_runs="1",
    )


def _origin(record: RunRecord, links: Links) -> list[Element]:
    """The cells below `ORIGIN`."""
    facts = record.facts
    git = facts.get("git") or {}
    commit = (git.get("commit") or "")[:12]
    epochs = facts.get("epochs")
    return [
        _cell("" if epochs is None else str(epochs)),
        _cell(_rate(facts.get("images_per_second"))),
        _cell(_rate(facts.get("seconds"))),
        _cell((facts.get("devices") or {}).get("precision") or ""),
        _cell(_hardware(facts.get("hardware") or {})),
        _cell(commit + (" and changes" if commit and git.get("dirty") else "")),
        element("td", element("a", record.folder.name, href=links.record(record))),
    ]


def _cell(text: str) -> Element:
    if text:
        return element("td", text)
    return element("td", class_="empty", title="not in the run record")


def _hardware(hardware: dict[str, Any]) -> str:
    if gpus := Counter(hardware.get("gpus") or []):
        return ", ".join(f"{number} x {name}" for name, number in gpus.items())
    threads = hardware.get("threads")
    with_threads = f", {threads} thread{'' if threads == 1 else 's'}" if threads else ""
    return f"{hardware.get('cpu') or ''}{with_threads}"


def _rate(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
