"""Mean, spread, and how sure one can be of a difference."""

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
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
    """An interval from `low` to `high`."""

    low: float
    high: float


class PairedDifference(NamedTuple):
    """Mean of the differences between runs that share a seed.

    Attributes:
        n: Number of pairs.
        difference: Mean difference.
        interval: Its 95 % confidence interval.
        p: Two-sided p-value of the paired t-test.
    """

    n: int
    difference: float
    interval: Interval
    p: float


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


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float]
) -> PairedDifference | None:
    """Mean difference of the runs that share a seed, with Student's t for paired samples.

    Args:
        values: Each seed's number.
        baseline: The same of the row that it is measured over.

    Returns:
        None where there is no test: less than two pairs, or all differences equal.
    """
    differences = [values[seed] - baseline[seed] for seed in values if seed in baseline]
    if len(differences) < 2 or math.isclose(max(differences), min(differences), abs_tol=1e-9):
        return None
    from scipy.stats import ttest_1samp

    result = ttest_1samp(differences, 0.0)
    low, high = result.confidence_interval(CONFIDENCE)
    mean = statistics.fmean(differences)
    interval = Interval(float(low), float(high))
    return PairedDifference(len(differences), mean, interval, float(result.pvalue))


def prediction_margin(deviation: float, n: int, first: int, second: int) -> float:
    """How far the means of two sets of runs may lie from each other in 95 of 100 cases.

    Student's t: normal single runs of one distribution, whose spread is known from some of them.

    Args:
        deviation: Sample standard deviation of n runs.
        n: Number of runs that it was computed from, 2 or more.
        first: Number of runs of one set.
        second: Number of runs of the other.
    """
    from scipy.stats import t

    quantile = float(t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return quantile * deviation * math.sqrt(1 / first + 1 / second)
