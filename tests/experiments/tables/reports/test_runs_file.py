import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.record import RunRecord
from experiments.tables.reports.committed import RESULTS
from experiments.tables.reports.runs_file import FILE_NAME, config_digest, read_runs, write_runs
from experiments.tables.rows import metric_of
from experiments.tables.table_files import load_table


def test_runs_are_read_back_as_they_were_recorded(record_run: Callable[..., RunRecord]) -> None:
    gpus = {"cpu": "a, b", "cores": 2, "threads": 1, "gpus": ["one", "two"]}
    record = record_run("operator", 7, 0.9375, hardware=gpus, git={"commit": "c0", "dirty": True})
    row = load_table("small").rows[1]
    write_runs([(row, (record,))], Path(FILE_NAME))
    (run,) = read_runs(Path(FILE_NAME))
    assert (run.row, run.config) == ("operator", config_digest(row))
    first = ("seed", "command", "status", "run_id", "started", "epochs", "seconds", "git")
    same = (*first, "versions", "hardware", "data", "parameters")
    assert {key: run.record.facts[key] for key in same} == {key: record.facts[key] for key in same}
    assert run.record.facts["metrics"]["test"] == {"test/acc1": 0.9375}
    assert run.record.state == "finished"


def test_what_is_compared_is_written_also_where_it_is_no_metric_of_the_test(
    record_run: Callable[..., RunRecord],
) -> None:
    record = record_run("operator", 7, 0.9375)
    record.update(metrics={**record.facts["metrics"], "last": {"search/free": 0.5}})
    row = load_table("small").rows[1]
    write_runs([(row, (record,))], Path(FILE_NAME), compared=["search/free", "search/none"])
    (run,) = read_runs(Path(FILE_NAME))
    found = [metric_of(run.record, name) for name in ("test/acc1", "search/free", "search/none")]
    assert found == [0.9375, 0.5, None]


def test_the_digest_changes_with_what_matters_only(table: Path) -> None:
    row = load_table("small").rows[0]
    assert row.config is not None
    before, text = config_digest(row), row.config.read_text()
    row.config.write_text(text + "threads: 3\n")
    assert config_digest(row) == before
    row.config.write_text(text.replace("0.01", "0.02"))
    assert config_digest(row) != before


def test_a_file_that_is_no_table_of_runs_is_one_error(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("row,seed\nbaseline,many\n")
    with pytest.raises(ValueError, match=r"runs\.csv cannot be read as runs"):
        read_runs(tmp_path / FILE_NAME)
    assert read_runs(tmp_path / "none.csv") == []


@pytest.mark.parametrize(
    "name",
    sorted(p.parent.name for p in (Path(__file__).parents[4] / RESULTS).glob(f"*/{FILE_NAME}")),
)
def test_committed_runs_are_of_the_rows_as_they_are_now(
    name: str, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository)
    rows = {row.key: row for row in load_table(name).rows}
    runs = read_runs(RESULTS / name / FILE_NAME)
    assert runs
    for run in runs:
        assert run.config == config_digest(rows[run.row]), f"{run.row} seed {run.record.seed}"
    with (RESULTS / name / FILE_NAME).open() as stream:
        assert "config_sha256" in next(csv.reader(stream))
