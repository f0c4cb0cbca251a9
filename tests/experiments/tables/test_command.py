import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.record import RunRecord

RecordRun = Callable[..., RunRecord]
Capture = pytest.CaptureFixture[str]


def test_list_imports_nothing_heavy(repository: Path) -> None:
    code = (
        "import sys; from experiments.__main__ import main; status = main(['table', 'list']);"
        "print({'torch', 'scipy', 'matplotlib', 'lightning', 'numpy'} & set(sys.modules), status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set() 0"


def test_a_dry_run_prints_the_plan_and_trains_nothing(
    record_run: RecordRun, capsys: Capture
) -> None:
    record_run("operator", 7)
    assert main(["table", "run", "small", "--seeds", "2", "--dry-run"]) == 0
    assert "3 of 4 runs to train" in capsys.readouterr().out
    assert len(list(Path("runs").rglob("run.json"))) == 1


def test_rows_can_be_chosen(table: Path, capsys: Capture) -> None:
    assert main(["table", "run", "small", "--rows", "operator", "--dry-run"]) == 0
    assert "baseline" not in capsys.readouterr().out


@pytest.mark.usefixtures("networks")
def test_report_prints_and_writes(record_run: RecordRun, capsys: Capture) -> None:
    record_run("operator", 7, 0.95)
    record_run("operator", 8, 0.95, overrides=("trainer.max_epochs=1",))
    assert main(["table", "report", "small", "--out", "out"]) == 0
    out = capsys.readouterr().out
    assert "95.000" in out
    assert "not counted: operator seed 8 (made-up-002): trainer.max_epochs was 1, now 15" in out
    assert Path("out/small/report.md").is_file()


@pytest.mark.parametrize(
    ("words", "status", "complaint"),
    [
        (["show", "smal"], 2, "no table is called 'smal'; did you mean 'small'?"),
        (["run", "small", "--rows", "oprator"], 2, "no row 'oprator'; did you mean 'operator'?"),
        (["run", "small", "--seeds", "0"], 2, "'0' is no number from 1 on"),
        (["run", "small", "--seed", "1"], 2, "unrecognized arguments: --seed"),
        (["run", "small", "--", "--runs", "x"], 2, "--runs does not belong after --"),
        (["report", "small", "--formats", "pdf"], 2, "invalid choice: 'pdf'"),
        (["report"], 2, "required: ID"),
        (["report", "small", "--", "--x"], 2, "table report takes no options after --"),
        (["shwo"], 2, "invalid choice: 'shwo'"),
        ([], 2, "required: COMMAND"),
    ],
)
def test_an_error_is_one_line(
    table: Path, capsys: Capture, words: list[str], status: int, complaint: str
) -> None:
    assert main(["table", *words]) == status
    error = capsys.readouterr().err
    assert complaint in error
    assert len(error.splitlines()) == 1


def test_help_is_no_error(capsys: Capture) -> None:
    assert main(["table", "run", "--help"]) == 0
    assert "--seeds" in capsys.readouterr().out


def test_a_narrow_terminal_cuts_no_number(
    table: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.console import Console

    from experiments.tables.cells import CellColumn
    from experiments.tables.terminal import print_grid

    columns = [CellColumn("", ["a long label of a row"])]
    columns += [CellColumn(f"column {i}", [f"{i}2345.678"]) for i in range(8)]
    for width in (20, 45, 200):
        print_grid(Console(width=width), columns)
        out = capsys.readouterr().out
        assert all(f"{i}2345.678" in out for i in range(8))
