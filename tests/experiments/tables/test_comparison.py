import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.record import RunRecord
from experiments.tables.cells import comparison_columns, published_columns, seeds_in_words
from experiments.tables.comparison import Comparison, compare
from experiments.tables.expectation import Verdict
from experiments.tables.reports.footnotes import deviations, footnotes
from experiments.tables.reports.runs_file import write_runs
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


def comparison() -> Comparison:
    return compare(load_table("small"), Path("runs"))


def cells() -> dict[str, list[str]]:
    return {column.header: column.cells for column in comparison_columns(comparison())}


def test_recorded_fractions_stand_beside_published_percent(record_run: RecordRun) -> None:
    for seed, accuracy in ((7, 0.91), (8, 0.92), (9, 0.93)):
        record_run("operator", seed, accuracy)
    operator = comparison().rows[1]
    assert operator.published == 91.125
    assert operator.summary is not None
    assert operator.summary.mean == pytest.approx(92.0)
    assert operator.summary.deviation == pytest.approx(1.0)
    assert operator.difference == pytest.approx(0.875)
    assert operator.published_summary == (2, 91.125, pytest.approx(math.sqrt(0.03125)))


def test_gain_is_over_the_baseline_and_has_an_interval(record_run: RecordRun) -> None:
    for seed, below, above in ((7, 0.90, 0.93), (8, 0.91, 0.94), (9, 0.92, 0.95)):
        record_run("baseline", seed, below)
        record_run("operator", seed, above)
    plain, ours = comparison().rows
    assert plain.gain is None
    assert ours.gain is not None
    assert ours.gain.difference == pytest.approx(3.0)
    assert ours.gain.interval is not None
    # Both variances are 1: 4 degrees of freedom, standard error sqrt(2/3).
    assert ours.gain.interval.low == pytest.approx(3 - 2.776445 * math.sqrt(2 / 3), abs=1e-5)


def test_each_row_may_have_a_baseline_of_its_own(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    content["reproduce"]["gain"] = {"column": "gain"}
    content["rows"][1]["over"] = "baseline"
    write_table(content)
    record_run("baseline", 7, 0.90)
    record_run("operator", 7, 0.93)
    plain, ours = comparison().rows
    assert (plain.gain, plain.published_gain) == (None, None)
    assert ours.gain is not None
    assert ours.gain.difference == pytest.approx(3.0)
    assert ours.published_gain == 0.875


def test_an_error_is_what_is_left_of_the_accuracy(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    content["reproduce"]["complement"] = True
    write_table(content)
    record_run("baseline", 7, 0.90)
    assert comparison().rows[0].values == pytest.approx((10.0,))
    assert "accuracy (1 - test/acc1)" in footnotes(comparison())[0]


def test_without_a_column_of_gains_the_published_gain_is_the_difference_of_the_rows(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    content["reproduce"]["gain"] = {"over": "baseline"}
    write_table(content)
    assert [row.published_gain for row in comparison().rows] == [None, 0.875]
    assert cells()["published gain"] == ["", "+0.875"]


def test_rows_without_published_numbers_have_no_published_gain(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    content["reproduce"] |= {"gain": {"over": "baseline"}, "runs": []}
    content["rows"][1]["values"] = dict.fromkeys(content["rows"][1]["values"])
    write_table(content)
    assert [row.published_gain for row in comparison().rows] == [None, None]


def test_one_run_a_side_gives_a_gain_without_an_interval(record_run: RecordRun) -> None:
    record_run("baseline", 7, 0.90)
    record_run("operator", 7, 0.92)
    gain = comparison().rows[1].gain
    assert gain is not None
    assert gain.interval is None
    shown = cells()
    assert shown["gain"] == ["", "+2.000"]
    assert shown["gain (95 % interval)"] == ["", "none"]
    assert shown["reproduced (%)"] == ["90.000", "92.000"]


def test_without_runs_there_are_only_published_columns(table: Path) -> None:
    assert cells() == {
        "": ["Plain", "Ours"],
        "published (%)": ["90.250 ± 0.354", "91.125 ± 0.177"],
        "published gain": ["", "+0.875"],
    }
    assert footnotes(comparison())[-1] == "no run counts yet: published and computed numbers only"


def test_without_a_baseline_run_there_is_no_gain(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.92)
    assert comparison().rows[1].gain is None
    assert "gain" not in cells()


def test_runs_that_do_not_count_stay_out_of_the_mean(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.9)
    record_run("operator", 8, 0.1, overrides=("trainer.max_epochs=1",))
    assert comparison().rows[1].values == (90.0,)


def test_other_units_are_not_scaled(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    content["columns"][2]["unit"] = "nats"
    content["reproduce"]["metric"] = "test/loss"
    write_table(content)
    record_run("operator", 7, metrics={"test": {"test/loss": 0.25}})
    assert comparison().rows[1].values == (0.25,)


def test_a_row_without_a_config_is_published_only(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    content["rows"][1]["config"] = None
    write_table(content)
    assert comparison().rows[1].published == 91.125
    assert comparison().rows[1].summary is None


def test_a_table_that_says_nothing_of_reproducing_has_published_numbers_only(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    del content["reproduce"]
    write_table(content)
    assert list(cells()) == ["", "run1 (%)", "run2 (%)", "avg (%)", "gain (points)"]
    assert footnotes(comparison()) == []


@pytest.fixture
def top5(content: dict[str, Any], write_table: Callable[..., Path]) -> None:
    """The made-up table with a second compared column."""
    content["columns"].append(
        {"name": "top5", "unit": "percent", "meaning": "five tries", "better": "higher"}
    )
    for row, value in zip(content["rows"], (98.0, None), strict=True):
        row["values"]["top5"] = value
    content["reproduce"]["also"] = [
        {
            "metric": "test/acc5",
            "quantity": "top-5",
            "column": "top5",
            "expected": {"below": 0.5, "above": 1},
        }
    ]
    write_table(content)


@pytest.mark.usefixtures("top5")
def test_a_table_is_compared_in_all_its_columns(record_run: RecordRun) -> None:
    metrics = {"test": {"test/acc1": 0.9, "test/acc5": 0.97}}
    record_run("baseline", 7, metrics=metrics)
    (also,) = comparison().also
    assert also.rows[0].values == pytest.approx((97.0,))
    assert also.rows[0].verdict is Verdict.BELOW
    assert also.rows[1].verdict is Verdict.NOT_RUN
    shown = cells()
    assert shown["avg: reproduced (%)"] == ["90.000", ""]
    assert shown["top5: published (%)"] == ["98.00", ""]
    assert shown["top5: verdict"] == ["below", ""]
    assert "top5: top-5 (test/acc5); published: five tries" in footnotes(comparison())


@pytest.mark.usefixtures("top5")
def test_a_deviation_is_explained_by_what_the_records_say(record_run: RecordRun) -> None:
    metrics = {"test": {"test/acc1": 0.9, "test/acc5": 0.97}}
    record_run("baseline", 7, metrics=metrics, epochs=3)
    assert deviations(comparison()) == [
        "Plain: top5 below the expected 97.50 to 99.00 % (stated in the table); what differs from "
        "the published runs: 3 epochs, published with 15; one seed only"
    ]


def test_a_row_may_expect_other_margins_than_its_table(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    content["reproduce"]["expected"] = {"below": 0.1, "above": 0.1}
    content["rows"][1]["expected"] = {"avg": {"below": 2, "above": 0}}
    write_table(content)
    record_run("baseline", 7, 0.9)
    record_run("operator", 7, 0.9)
    assert [row.verdict for row in comparison().rows] == [Verdict.BELOW, Verdict.WITHIN]


def test_a_row_of_which_only_a_gain_was_published_is_held_against_baseline_and_gain(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    content["reproduce"]["runs"] = []
    content["rows"][1]["values"]["avg"] = None
    write_table(content)
    record_run("operator", 7, 0.92)
    ours = comparison().rows[1]
    assert (ours.published, ours.target) == (None, 91.125)
    assert ours.difference == pytest.approx(0.875)
    assert cells()["published (%)"] == ["90.25", "(91.12)"]
    assert any("in brackets" in line for line in footnotes(comparison()))


def test_runs_with_the_same_seed_are_paired(record_run: RecordRun) -> None:
    for seed, below, above in ((7, 0.80, 0.83), (8, 0.90, 0.94), (9, 0.95, 1.0)):
        record_run("baseline", seed, below)
        record_run("operator", seed, above)
    record_run("operator", 10, 0.5)
    gain = comparison().rows[1].gain
    assert gain is not None
    assert gain.paired is not None
    assert gain.paired.n == 3
    assert gain.paired.difference == pytest.approx(4.0)
    shown = cells()
    assert shown["pairs"] == ["", "3"]
    assert shown["paired (95 % interval)"] == ["", "+4.000, +1.516 to +6.484"]
    assert shown["p (paired)"] == ["", "0.020"]


def test_committed_runs_count_where_there_is_no_other(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.90)
    record_run("operator", 8, 0.92)
    before = compare(load_table("small"), Path("runs"))
    folder = Path("results/small")
    folder.mkdir(parents=True)
    write_runs([(row.row, row.records) for row in before.rows], folder / "runs.csv")
    shutil.rmtree("runs")
    record_run("operator", 8, 0.96)
    found = compare(load_table("small"), Path("runs"), committed=Path("results")).rows[1]
    assert found.values == pytest.approx((90.0, 96.0))


def test_committed_runs_of_another_config_do_not_count(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.90)
    rows = compare(load_table("small"), Path("runs")).rows
    folder = Path("results/small")
    folder.mkdir(parents=True)
    write_runs([(row.row, row.records) for row in rows], folder / "runs.csv")
    shutil.rmtree("runs")
    config = Path("configs/own/operator.yaml")
    config.write_text(config.read_text().replace("max_epochs: 15", "max_epochs: 16"))
    found = compare(load_table("small"), Path("runs"), committed=Path("results")).rows[1]
    assert found.values == ()
    assert [left.why for left in found.left_out] == [
        "in a committed report, made from another config"
    ]


def test_under_a_recipe_other_runs_count(record_run: RecordRun) -> None:
    recipe = Path("short.yaml")
    recipe.write_text("trainer: {max_epochs: 1}")
    record_run("operator", 7, 0.90)
    record_run("operator", 8, 0.50, overrides=("trainer.max_epochs=1",), epochs=1)
    found = compare(load_table("small"), Path("runs"), recipe=recipe)
    assert found.name == "small.short"
    assert found.rows[1].values == (50.0,)
    assert found.rows[1].explanations == (
        "trained with short.yaml",
        "1 epoch, published with 15",
        "one seed only",
    )


@pytest.mark.usefixtures("networks")
def test_costs_come_from_the_record_else_from_the_network(record_run: RecordRun) -> None:
    record_run("operator", 7, multiply_adds=99)
    rows = compare(load_table("small"), Path("runs"), costs=True).rows
    assert [row.costs for row in rows] == [(1000, 1000, 50_000), (1234, 1000, 99)]


def test_parameters_come_from_the_records(record_run: RecordRun) -> None:
    record_run("operator", 7)
    shown = cells()
    assert shown["parameters (training)"] == ["", "1,234"]
    assert shown["parameters (fused)"] == ["", "1,000"]


def test_a_column_shows_all_its_published_numbers_with_as_many_decimals(table: Path) -> None:
    columns = {column.header: column.cells for column in published_columns(load_table("small"))}
    assert columns["avg (%)"] == ["90.250", "91.125"]
    assert columns["run2 (%)"] == ["90.50", "91.25"]
    assert columns["gain (points)"] == ["", "0.875"]


@pytest.mark.parametrize(
    ("seeds", "words"),
    [([3], "3"), ([3, 4], "3, 4"), ([3, 4, 5], "3 to 5"), ([3, 4, 6], "3, 4, 6")],
)
def test_seeds_in_a_row_are_named_by_their_ends(seeds: list[int], words: str) -> None:
    assert seeds_in_words(seeds) == words
