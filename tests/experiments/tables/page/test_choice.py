from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.__main__ import main
from experiments.record import RunRecord

RecordRun = Callable[..., RunRecord]
Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.usefixtures("networks")


def dashboard() -> str:
    assert main(["dashboard", "html"]) == 0
    return Path("runs/dashboard.html").read_text(encoding="utf-8")


def test_the_dashboard_has_the_tables_with_runs_and_no_other(
    record_run: RecordRun, content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    record_run("operator", 7, 0.911)
    without = [{**row, "config": None} for row in content["rows"]]
    write_table(content | {"id": "bare", "rows": without}, "bare")
    text = dashboard()
    assert '<section id="small"' in text
    assert 'id="bare"' not in text


def test_a_run_that_no_table_shows_is_a_row_of_its_own(record_run: RecordRun) -> None:
    record_run("operator", 7)
    record_run("operator", 8, command="test")
    lost = RunRecord.open(Path("runs/smoke/lost"), row="smoke", command="fit", seed=3)
    lost.close()
    text = dashboard()
    assert '<tbody id="smoke/lost"' in text
    assert '<tbody id="own/operator/made-up-002"' in text
    assert '<tbody id="own/operator/made-up-001"' not in text
    assert "python -m experiments fit --config runs/smoke/lost/config.yaml" in text


def test_runs_under_a_recipe_are_compared_under_it(record_run: RecordRun) -> None:
    recipe = Path("configs/recipes/short.yaml")
    recipe.parent.mkdir()
    recipe.write_text(yaml.safe_dump({"trainer": {"max_epochs": 1}}))
    record = record_run("operator", 7, 0.911, overrides=("trainer.max_epochs=1",))
    config = record.facts["config"]
    record.update(config={**config, "files": [*config["files"], str(recipe)]})
    text = dashboard()
    assert '<section id="small.short"' in text
    assert "91.100" in text


def test_the_file_can_be_chosen(record_run: RecordRun, capsys: Capture) -> None:
    record_run("operator", 7)
    assert main(["dashboard", "html", "--runs", "runs", "--out", "pages/all.html"]) == 0
    assert Path("pages/all.html").is_file()
    assert capsys.readouterr().out.endswith("wrote pages/all.html\n")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["html", "--runs", "nowhere"], "no folder nowhere; train a row first"),
        (["html", "--outs", "x"], "unrecognized arguments: --outs x"),
        (["htlm"], "invalid choice: 'htlm'"),
        ([], "required: KIND"),
    ],
)
def test_wrong_usage_is_answered_with_one_line(
    table: Path, words: list[str], complaint: str, capsys: Capture
) -> None:
    assert main(["dashboard", *words]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert len(error.splitlines()) == 1
