import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.record import RunRecord
from experiments.tables.comparison import compare
from experiments.tables.listing import list_tables
from experiments.tables.reports.report import write_report
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


def listed(width: int = 200) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    list_tables(console, Path("runs"))
    return console.export_text().splitlines()


def line(name: str = "small") -> list[str]:
    return next(line for line in listed() if line.strip().startswith(name)).split()


def test_a_line_says_how_many_rows_have_runs_that_count(record_run: RecordRun) -> None:
    record_run("operator", 7)
    record_run("baseline", 7, status="failed")
    words = ["small", "Digits:", "a", "made-up", "table", "2"]
    assert line() == [*words, "1", "of", "2", "0", "of", "2"]


def test_what_is_committed_is_said_where_there_are_no_runs(record_run: RecordRun) -> None:
    record = record_run("operator", 7)
    write_report(compare(load_table("small"), Path("runs")), Path("results/small"), ["csv"])
    (record.folder / "run.json").unlink()
    assert line()[-6:] == ["0", "of", "2", "1", "of", "2"]
    config = Path("configs/own/operator.yaml")
    config.write_text(config.read_text().replace("max_epochs: 15", "max_epochs: 16"))
    assert line()[-6:] == ["0", "of", "2", "0", "of", "2"]


def test_rows_that_are_only_published_are_counted_apart(
    write_table: Callable[..., Path], content: dict[str, Any]
) -> None:
    content["rows"][0]["config"] = None
    del content["reproduce"]["gain"]
    write_table(content)
    assert line()[-8:] == ["2", "1", "0", "of", "1", "0", "of", "1"]


def test_tables_stand_under_their_papers(
    write_table: Callable[..., Path], content: dict[str, Any]
) -> None:
    write_table(content)
    write_table(content | {"id": "second"}, "second")
    other = content["paper"] | {"title": "Another paper"}
    write_table(content | {"id": "third", "paper": other}, "third")
    words = ("A. One", "small", "second", "third")
    starts = [line.split("  ")[0] or line.strip() for line in listed()]
    order = [next((w for w in words if start.strip().startswith(w)), "") for start in starts]
    assert [word for word in order if word] == ["A. One", "second", "small", "A. One", "third"]


def test_a_narrow_terminal_cuts_no_number(record_run: RecordRun) -> None:
    record_run("operator", 7)
    text = "\n".join(listed(40))
    assert "1 of 2" in text
    assert "0 of 2" in text
