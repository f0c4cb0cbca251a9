import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.compose import ConfigError
from experiments.record import RunRecord
from experiments.tables.cells import (
    comparison_columns,
    footnotes,
    published_columns,
    seeds_in_words,
)
from experiments.tables.comparison import Comparison, compare
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


def test_without_runs_every_reproduced_cell_is_empty(table: Path) -> None:
    shown = cells()
    assert shown.pop("") == ["Plain", "Ours"]
    assert shown.pop("published (%)") == ["90.250 ± 0.354", "91.125 ± 0.177"]
    assert shown.pop("published gain") == ["", "+0.875"]
    assert {cell for column in shown.values() for cell in column} == {""}


def test_without_a_baseline_run_there_is_no_gain(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.92)
    assert cells()["gain"] == ["", ""]


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


def test_a_table_that_says_nothing_of_reproducing_is_an_error(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    del content["reproduce"]
    write_table(content)
    with pytest.raises(ConfigError, match="no `reproduce:` says which metric"):
        comparison()


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
