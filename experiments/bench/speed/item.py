"""An item of the speed table: what is measured, and what it should come to."""

import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from experiments.bench.timing import Run, Timing, interleaved, ratios, spread, wall_clock

Allocator = Literal["default", "tuned"]
Unit = Literal["times as fast", "times the time", "times the memory", "us a step"]
Rounds = Iterable[int]

TUNED = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}
"""Environment in which glibc's allocator keeps memory that it was given: a large tensor is then not
mapped anew, page by page, each time. It is read when a process starts."""


class UnavailableError(Exception):
    """What an item needs isn't on this machine; the message says what, and how to get it."""


@dataclass(frozen=True)
class Target:
    """What a value should be: at least, or at most, a bound."""

    bound: float
    at_least: bool = True

    def reached(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.bound if self.at_least else value <= self.bound

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}"


class Measured(NamedTuple):
    """What came out.

    Attributes:
        value: Median over the rounds, in the item's unit.
        iqr: Distance of its quartiles; 0 for what is counted, not timed.
        ours: The suite's own time (ms, or us for a difference) or memory (MiB).
        reference: That of what it is measured against.
    """

    value: float
    iqr: float
    ours: float
    reference: float


@dataclass(frozen=True)
class Item:
    """An item of the speed table.

    Attributes:
        name: What it is called on the command line.
        group: Heading that it stands under.
        title: What is measured, on what.
        against: What it is measured against.
        unit: What the value counts.
        targets: The target under each allocator that the item is measured with.
        measure: Does so, in as many rounds.
    """

    name: str
    group: str
    title: str
    against: str
    unit: Unit
    targets: Mapping[Allocator, Target]
    measure: Callable[[Rounds], Measured]

    @property
    def measured_in(self) -> str:
        """Unit of the suite's own and of the reference's number."""
        return {"times the memory": "MiB", "us a step": "us"}.get(self.unit, "ms")


def allocator() -> Allocator:
    """Which of the allocators this process runs with."""
    return "tuned" if all(os.environ.get(key) == TUNED[key] for key in TUNED) else "default"


def times_as_fast(reference: Run, ours: Run, rounds: Rounds) -> Measured:
    """How many times as fast as the reference; both calls do the same work."""
    theirs, own = _race(reference, ours, rounds)
    return compared(theirs, own, ratios(theirs, own))


def times_the_time(plain: Run, ours: Run, rounds: Rounds) -> Measured:
    """How many times as long as the plain network takes."""
    theirs, own = _race(plain, ours, rounds)
    return compared(theirs, own, ratios(own, theirs))


def compared(reference: Timing, ours: Timing, values: Sequence[float]) -> Measured:
    """Median and spread of a value of each round, beside both medians in milliseconds."""
    return Measured(
        statistics.median(values), spread(values), ours.median * 1000, reference.median * 1000
    )


def _race(reference: Run, ours: Run, rounds: Rounds) -> tuple[Timing, Timing]:
    timings: dict[Any, Timing] = interleaved({0: reference, 1: ours}, rounds, wall_clock)
    return timings[0], timings[1]
