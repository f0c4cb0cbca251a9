import subprocess
import sys
from pathlib import Path

import pytest

from experiments.__main__ import COMMANDS, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["table", "list"], ["fot"]])
def test_nothing_heavy_is_imported_before_it_is_needed(
    repository: Path, arguments: list[str]
) -> None:
    script = (
        "import sys; from experiments.__main__ import main; main(sys.argv[1:]);"
        "heavy = {'torch', 'lightning', 'timm', 'wandb', 'torchmetrics'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script, *arguments], cwd=repository, check=True)


def test_a_mistyped_command_is_answered_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["tabel"]) == 2
    assert capsys.readouterr().err == "error: no command is called 'tabel'; did you mean 'table'?\n"


def test_traceback_shows_the_rest() -> None:
    with pytest.raises(SystemExit):
        main(["tabel", "--traceback"])
