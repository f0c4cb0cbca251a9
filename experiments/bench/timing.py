"""Times calls against each other: interleaved rounds in one process, medians and their spread.

A machine is not equally fast for long. So in each round every subject is timed once, in an order
that is drawn anew, and two subjects are compared round by round.
"""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Run = Callable[[], object]
Key = TypeVar("Key", bound=Hashable)

LEAST_ROUNDS = 7


class Clock(Protocol):
    """Times calls of `run`."""

    def __call__(self, run: Run, calls: int) -> float:
        """Return the seconds that one of `calls` calls took."""


@dataclass(frozen=True)
class Timing:
    """How long a call took.

    Attributes:
        seconds: Seconds of a call, one number for each round.
        calls: Calls that each of them is the mean of.
    """

    seconds: tuple[float, ...]
    calls: int

    @property
    def median(self) -> float:
        """Median over the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def iqr(self) -> float:
        """Distance of the quartiles over the rounds, in seconds."""
        return spread(self.seconds)


def interleaved(
    runs: Mapping[Key, Run], rounds: Iterable[Any], clock: Clock, least_seconds: float = 0.2
) -> dict[Key, Timing]:
    """Time every run once in each round.

    Every run is called once before, untimed, and once to learn how many calls a sample needs.

    Args:
        runs: What is timed.
        rounds: One item for each round.
        clock: Times a sample.
        least_seconds: Time that a sample takes at least; quick runs are called more than once.
    """
    calls = {}
    for key, run in runs.items():
        run()
        calls[key] = max(1, math.ceil(least_seconds / max(clock(run, 1), 1e-9)))
    seconds: dict[Key, list[float]] = {key: [] for key in runs}
    draw = random.Random(0)
    order = list(runs)
    for _ in rounds:
        draw.shuffle(order)
        for key in order:
            seconds[key].append(clock(runs[key], calls[key]))
    return {key: Timing(tuple(seconds[key]), calls[key]) for key in runs}


def ratios(numerator: Timing, denominator: Timing) -> list[float]:
    """Quotient of two timings in each round."""
    return [a / b for a, b in zip(numerator.seconds, denominator.seconds, strict=True)]


def spread(values: Iterable[float]) -> float:
    """Distance of the quartiles (interpolated) of at least two values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return high - low


def wall_clock(run: Run, calls: int) -> float:
    """A `Clock` for CPUs. The garbage collector waits meanwhile."""
    collects = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in range(calls):
            run()
        return (time.perf_counter() - start) / calls
    finally:
        if collects:
            gc.enable()


def cuda_clock(run: Run, calls: int) -> float:
    """A `Clock` for the current GPU: from an event before the calls to one after them."""
    import torch

    event: Any = torch.cuda.Event
    start, end = event(enable_timing=True), event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(calls):
        run()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000 / calls
