from pathlib import Path
from typing import Any

import pytest

from experiments.record import RunRecord
from experiments.tables.expectation import Band, Verdict, expected_band, explanations, judge
from experiments.tables.spec import Expected
from experiments.tables.statistics import Summary, summarise
from experiments.tables.table_files import load_table

SPREAD = summarise([94.0, 95.0, 96.0])


def record(**facts: Any) -> RunRecord:
    return RunRecord(Path("run"), facts)


def test_what_the_table_states_comes_before_any_spread() -> None:
    band = expected_band(Expected(1, 0.5), 90.0, [80.0, 100.0], SPREAD)
    assert band == Band(89.0, 90.5, "stated in the table")


@pytest.mark.parametrize(
    ("published_runs", "spread", "origin"),
    [([85.0, 90.0, 95.0], 5.0, "spread of the published runs"),
     ([90.0, 90.0, 90.0], 1.0, "spread of the runs here")],
)  # fmt: skip
def test_the_larger_spread_makes_the_band(
    published_runs: list[float], spread: float, origin: str
) -> None:
    band = expected_band(None, 90.0, published_runs, SPREAD)
    assert band is not None
    assert band.origin == origin
    # t of 2 degrees of freedom; means of three and of three runs.
    assert band.high - 90 == pytest.approx(4.302653 * spread * (2 / 3) ** 0.5)
    assert 90 - band.low == pytest.approx(band.high - 90)


def test_a_number_published_without_its_runs_counts_as_one_run() -> None:
    band = expected_band(None, 90.0, [], SPREAD)
    assert band is not None
    assert band.high - 90 == pytest.approx(4.302653 * (1 + 1 / 3) ** 0.5)


def test_without_any_spread_there_is_no_band() -> None:
    assert expected_band(None, 90.0, [], summarise([90.0])) is None
    assert expected_band(None, None, [], SPREAD) is None


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [(0.29, "below"), (0.3, "within"), (0.1 + 0.2, "within"), (0.5, "within"), (0.51, "above")],
)
def test_the_ends_of_a_band_belong_to_it(mean: float, verdict: str) -> None:
    assert judge(0.4, Summary(1, mean, None), Band(0.3, 0.5, "")) == verdict


def test_what_cannot_be_judged_says_why() -> None:
    one, band = Summary(1, 1.0, None), Band(0, 2, "")
    assert judge(1.0, None, band) is Verdict.NOT_RUN
    assert judge(None, one, None) is Verdict.NOTHING_PUBLISHED
    assert judge(1.0, one, None) is Verdict.NO_BAND
    assert not any(verdict.outside for verdict in (Verdict.NOT_RUN, Verdict.NO_BAND))


@pytest.mark.usefixtures("table")
def test_runs_like_the_published_ones_need_no_explanation() -> None:
    small = load_table("small")
    same = record(epochs=15, data={"name": "digits"}, batch={"global": 32})
    assert explanations(small, small.rows[0], [same, same]) == ()


@pytest.mark.usefixtures("table")
def test_without_runs_there_is_nothing_to_explain() -> None:
    small = load_table("small")
    assert explanations(small, small.rows[0], [], Path("short.yaml")) == ()


def test_other_data_and_another_batch_are_found(write_table: Any, content: dict[str, Any]) -> None:
    content["dataset"] = "ImageNet-1k, validation set"
    content["protocol"]["global_batch"] = 256
    content["rows"][1]["variant"] = {"dataset": "CIFAR-100", "epochs": 300}
    write_table(content)
    plain, ours = load_table("small").rows
    few = record(data={"name": "ImageNet", "classes": 10}, batch={"global": 32}, epochs=300)
    assert explanations(load_table("small"), plain, [few, few]) == (
        "300 epochs, published with 15",
        "10 classes of ImageNet, published for 1000",
        "32 images a step, published with 256",
    )
    other = record(data={"name": "CIFAR-10"}, epochs=300)
    assert explanations(load_table("small"), ours, [other]) == (
        "trained on CIFAR-10, published for CIFAR-100",
        "one seed only",
    )
