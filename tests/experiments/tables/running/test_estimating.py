from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from experiments.record import RunRecord
from experiments.tables.comparison import compare
from experiments.tables.reports.report import write_report
from experiments.tables.running.estimating import Estimate, clock, estimate, span, total
from experiments.tables.running.planning import Request, plan_runs
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


def estimates(seeds: int = 1, options: Sequence[str] = ()) -> dict[str, Estimate | None]:
    request = Request(load_table("small"), Path("runs"), None, tuple(options))
    tasks = plan_runs(request, request.table.select(None), seeds)
    return {t.name: e for t, e in zip(tasks, estimate(request, tasks), strict=True)}


def test_nothing_is_known_before_the_first_run(table: Path) -> None:
    assert set(estimates().values()) == {None}


def test_a_rows_own_runs_say_how_long_it_takes(record_run: RecordRun) -> None:
    record_run("operator", 7, seconds=50.0)
    record_run("operator", 8, seconds=70.0)
    found = estimates(3)
    assert found["operator seed 9"] == Estimate(50.0, 70.0, "this row's runs")
    assert found["operator seed 7"] is None  # it is done
    assert found["baseline seed 7"] == Estimate(50.0, 70.0, "other rows' runs")


def test_epochs_are_scaled_and_what_does_not_depend_on_them_is_not(record_run: RecordRun) -> None:
    record_run("operator", 8, seconds=100.0, training_seconds=90.0)
    found = estimates(options=["--trainer.max_epochs", "5"])
    assert found["operator seed 7"] == Estimate(40.0, 40.0, "this row's runs")


def test_what_is_resumed_takes_only_the_rest(record_run: RecordRun) -> None:
    record_run("operator", 8, seconds=150.0)
    broken = record_run("operator", 7, None, status="interrupted", epochs=12)
    (broken.folder / "checkpoints").mkdir()
    (broken.folder / "checkpoints/last.ckpt").touch()
    assert estimates()["operator seed 7"] == Estimate(30.0, 30.0, "this row's runs")


@pytest.mark.parametrize(
    "facts",
    [
        {"resumed": 1},
        {"overrides": ("data.init_args.batch_size=64",)},
        {"status": "failed"},
        {"command": "test"},
    ],
)
def test_a_run_that_took_its_time_for_something_else_says_nothing(
    record_run: RecordRun, facts: dict[str, object]
) -> None:
    record_run("operator", 9, **facts)
    assert estimates()["operator seed 7"] is None


def test_committed_runs_speak_where_no_others_are(record_run: RecordRun) -> None:
    record = record_run("operator", 8, seconds=60.0)
    write_report(compare(load_table("small"), Path("runs")), Path("results/small"), ["csv"])
    (record.folder / "run.json").unlink()
    found = estimates()
    assert found["operator seed 7"] == Estimate(60.0, 60.0, "this row's committed runs")
    assert found["baseline seed 7"] == Estimate(60.0, 60.0, "other rows' committed runs")


def test_a_total_says_what_is_unknown_and_is_no_shorter_than_the_longest_run() -> None:
    short, long = Estimate(60, 90, ""), Estimate(600, 600, "")
    assert total([]) == ""
    assert total([None]) == "unknown"
    assert total([short, long, None]) == "11:00 to 11:30, 1 of unknown length"
    assert total([short, long], jobs=2) == "10:00"
    assert span(None) == "unknown"


def test_a_clock_shows_hours_only_where_there_are_some() -> None:
    assert [clock(5.4), clock(3599.6), clock(3661)] == ["0:05", "1:00:00", "1:01:01"]
