"""How functions that take long let their callers show how far they are."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Step = TypeVar("Step")


class Track(Protocol):
    """Passes steps on, one after the other, and shows that they are taken."""

    def __call__(self, steps: Iterable[Step], description: str, total: int) -> Iterable[Step]:
        """Return the `steps`, `total` of them, that make up what the `description` says."""


def silently(steps: Iterable[Step], description: str, total: int) -> Iterable[Step]:
    """Show nothing."""
    return steps
