"""Mean, spread, and how sure one can be of a difference."""

import statistics
import warnings
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Summary(NamedTuple):
    """What a few runs amount to.

    Attributes:
        n: Number of runs.
        mean: Their mean.
        deviation: Their sample standard deviation (n - 1 below the sum), None for one run.
    """

    n: int
    mean: float
    deviation: float | None


class Interval(NamedTuple):
    """A confidence interval from `low` to `high`."""

    low: float
    high: float


def summarise(values: Sequence[float]) -> Summary | None:
    """Mean and sample standard deviation of `values`, None if there are none."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Summary(len(values), statistics.fmean(values), deviation)


def welch_interval(values: Sequence[float], baseline: Sequence[float]) -> Interval | None:
    """95 % confidence interval of mean(values) - mean(baseline), spreads not taken to be equal.

    Welch's t interval: normal single runs, independent of each other. None where it does not
    exist: less than two runs on one side, or no spread on either side.
    """
    if min(len(values), len(baseline)) < 2:
        return None
    if statistics.stdev(values) == statistics.stdev(baseline) == 0:
        return None
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        # scipy doubts its precision where all runs of one side are equal; that spread is 0.
        warnings.simplefilter("ignore", RuntimeWarning)
        result = ttest_ind(values, baseline, equal_var=False)
    low, high = result.confidence_interval(CONFIDENCE)
    return Interval(float(low), float(high))
