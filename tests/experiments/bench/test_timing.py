from collections.abc import Callable

import pytest

from experiments.bench.timing import Run, Timing, interleaved, ratios, spread


class MadeUpClock:
    """Says that each run takes a time of its own, and notes what was timed, and how often."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.timed: list[tuple[str, int]] = []
        self.called: list[str] = []

    def runs(self) -> dict[str, Run]:
        return {name: self._run(name) for name in self.seconds}

    def _run(self, name: str) -> Callable[[], str]:
        def run() -> str:
            self.called.append(name)
            return name

        return run

    def __call__(self, run: Run, calls: int) -> float:
        name = str(run())
        self.timed.append((name, calls))
        return self.seconds[name]


def test_every_subject_is_timed_once_in_every_round() -> None:
    clock = MadeUpClock(dict.fromkeys("abc", 1.0))
    interleaved(clock.runs(), range(8), clock, least_seconds=0)
    in_rounds = [name for name, _ in clock.timed[3:]]
    rounds = [in_rounds[start : start + 3] for start in range(0, len(in_rounds), 3)]
    assert len(rounds) == 8
    assert all(sorted(names) == list("abc") for names in rounds)


def test_the_order_changes_from_round_to_round() -> None:
    clock = MadeUpClock(dict.fromkeys("abc", 1.0))
    interleaved(clock.runs(), range(20), clock, least_seconds=0)
    in_rounds = [name for name, _ in clock.timed[3:]]
    first = [in_rounds[start] for start in range(0, 60, 3)]
    assert set(first) == set("abc")
    assert max(first.count(name) for name in "abc") < 20


def test_every_subject_is_warmed_up_before_the_first_sample() -> None:
    clock = MadeUpClock(dict.fromkeys("ab", 1.0))
    timings = interleaved(clock.runs(), range(7), clock, least_seconds=0)
    assert clock.called[:4] == ["a", "a", "b", "b"]
    assert all(len(timing.seconds) == 7 for timing in timings.values())


def test_quick_subjects_are_called_until_a_sample_is_long_enough() -> None:
    clock = MadeUpClock({"quick": 0.001, "slow": 5.0})
    timings = interleaved(clock.runs(), range(7), clock, least_seconds=0.2)
    assert timings["quick"].calls == 200
    assert timings["slow"].calls == 1
    assert all(calls == timings[name].calls for name, calls in clock.timed[2:])


def test_ratios_compare_what_was_timed_in_the_same_round() -> None:
    # The machine is three times slower in the second round: the ratio doesn't notice.
    plain, ours = Timing((1.0, 3.0, 1.0), 1), Timing((2.0, 6.0, 2.0), 1)
    assert ratios(ours, plain) == [2.0, 2.0, 2.0]


def test_median_and_spread_are_those_of_the_rounds() -> None:
    timing = Timing((5.0, 1.0, 2.0, 4.0, 3.0), 1)
    assert (timing.median, timing.iqr) == (3.0, 2.0)
    assert spread([1.0, 1.0]) == 0.0
    with pytest.raises(ValueError, match="two data points"):
        spread([])
