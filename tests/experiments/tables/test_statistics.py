import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from experiments.tables.statistics import (
    paired_difference,
    prediction_margin,
    summarise,
    welch_interval,
)

accuracies = st.lists(st.floats(50, 100).map(lambda x: round(x, 2)), min_size=2, max_size=8)


def test_mean_and_deviation_of_known_values() -> None:
    summary = summarise([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert summary is not None
    assert summary.n == 8
    assert summary.mean == 5.0
    assert summary.deviation == pytest.approx((32 / 7) ** 0.5)


def test_one_run_has_a_mean_and_no_deviation() -> None:
    assert summarise([95.0]) == (1, 95.0, None)


def test_no_runs_have_no_summary() -> None:
    assert summarise([]) is None


def test_interval_of_a_case_computed_by_hand() -> None:
    # Variances 1 and 4 of 3 runs each: standard error sqrt(5/3), 50/17 degrees of freedom.
    interval = welch_interval([11.0, 12.0, 13.0], [8.0, 10.0, 12.0])
    assert interval is not None
    half = stats.t.ppf(0.975, 50 / 17) * (5 / 3) ** 0.5
    assert interval.low == pytest.approx(2 - half)
    assert interval.high == pytest.approx(2 + half)


def test_equal_spreads_and_sizes_give_the_textbook_interval() -> None:
    interval = welch_interval([1.0, 2.0, 3.0, 4.0, 5.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    assert interval is not None
    assert interval.high - 1 == pytest.approx(2.306004)  # t of 8 degrees of freedom, error 1


@settings(deadline=None, max_examples=50)
@given(accuracies, accuracies)
def test_interval_lies_around_the_difference_and_turns_with_the_sides(
    values: list[float], baseline: list[float]
) -> None:
    interval = welch_interval(values, baseline)
    turned = welch_interval(baseline, values)
    if interval is None:
        assert turned is None
        assert len(set(values)) == len(set(baseline)) == 1
        return
    assert turned is not None
    difference = sum(values) / len(values) - sum(baseline) / len(baseline)
    assert (interval.low + interval.high) / 2 == pytest.approx(difference, abs=1e-9)
    assert interval.low < interval.high
    assert turned.low == pytest.approx(-interval.high, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "baseline"),
    [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0]), ([], []), ([1.0] * 5, [2.0] * 5)],
)
def test_without_spread_or_with_one_run_there_is_no_interval(
    values: list[float], baseline: list[float]
) -> None:
    assert welch_interval(values, baseline) is None


def test_equal_runs_on_one_side_give_an_interval_without_a_warning(
    recwarn: pytest.WarningsRecorder,
) -> None:
    assert welch_interval([98.1] * 5, [98.0, 98.2, 98.3]) is not None
    assert not recwarn.list


def test_pairs_are_compared_by_seed_as_computed_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), two degrees of freedom.
    values, baseline = {1: 11.0, 2: 22.0, 3: 33.0, 9: 0.0}, {3: 30.0, 2: 20.0, 1: 10.0, 8: 5.0}
    paired = paired_difference(values, baseline)
    assert paired is not None
    assert (paired.n, paired.difference) == (3, 2.0)
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert paired.interval == pytest.approx((2 - half, 2 + half))
    assert paired.p == pytest.approx(2 * stats.t.sf(2 * 3**0.5, 2))


@pytest.mark.parametrize(
    ("values", "baseline"),
    [
        ({1: 1.0, 2: 2.0}, {2: 1.0, 3: 2.0}),  # one pair
        ({1: 1.0, 2: 2.0}, {3: 1.0, 4: 2.0}),  # none
        ({1: 0.3, 2: 0.4}, {1: 0.1, 2: 0.2}),  # equal differences, but for rounding
    ],
)
def test_without_two_different_pairs_there_is_no_paired_test(
    values: dict[int, float], baseline: dict[int, float]
) -> None:
    assert paired_difference(values, baseline) is None


def test_a_prediction_reaches_as_far_as_the_textbook_says() -> None:
    # One further run after five: t of 4 degrees of freedom times sqrt(1 + 1/5).
    assert prediction_margin(2.0, 5, 5, 1) == pytest.approx(2.776445 * 2 * 1.2**0.5)
