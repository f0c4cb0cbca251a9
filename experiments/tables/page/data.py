"""What the page's script draws, as JSON: learning curves of runs and points of tables."""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.record import RunRecord
from experiments.tables.comparison import RowComparison

# Points of a curve: a hundred, but fewer on a page of many runs, which so stays small.
POINTS_OF_RUN, POINTS_OF_PAGE, LEAST_POINTS = 100, 15_000, 25
ACCURACY, LOSS = "val/acc1", "train/loss"

Curve = dict[str, list[Any]]


def learning_curve(record: RunRecord, points: int = POINTS_OF_RUN) -> Curve:
    """Validation accuracy (percent) and training loss of a run against its epochs.

    Read from the run's `metrics.csv`; of a long run only so many epochs, evenly spread, the first
    and the last among them. Epochs count from 1. What was not logged in an epoch, or is no number,
    is None.

    Args:
        record: The run.
        points: How many epochs at most, 2 or more.

    Returns:
        `epochs`, `accuracy` and `loss`, equally long; empty if the run has logged neither.
    """
    accuracy: dict[int, float] = {}
    loss: dict[int, float] = {}
    try:
        with (record.folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                _take(line, ACCURACY, accuracy)
                _take(line, LOSS, loss)
    except (OSError, ValueError, csv.Error):
        return {"epochs": [], "accuracy": [], "loss": []}
    epochs = _thinned(sorted(accuracy) or sorted(loss), points)
    return {
        "epochs": [epoch + 1 for epoch in epochs],
        "accuracy": [_rounded(accuracy.get(epoch), 100.0) for epoch in epochs],
        "loss": [_rounded(loss.get(epoch)) for epoch in epochs],
    }


def point(row: RowComparison) -> dict[str, Any]:
    """A row as a point of the plots: what was published, what came out, what it costs."""
    published, costs = row.published_summary, row.costs
    return {
        "published": row.published,
        "publishedSpread": _rounded(published.deviation if published else None),
        "mean": _rounded(row.summary.mean if row.summary else None, digits=6),
        "spread": _rounded(row.summary.deviation if row.summary else None),
        "parameters": costs.fused if costs else None,
        "multiplyAdds": costs.multiply_adds if costs else None,
    }


def embedded(data: Mapping[str, Any]) -> str:
    """JSON that is safe inside a `script` element: ASCII without `<`."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


class Curves:
    """The curves of all runs on a page, each of them once."""

    def __init__(self) -> None:
        self._records: dict[Path, RunRecord] = {}
        self._places: dict[Path, int] = {}

    def places(self, records: Iterable[RunRecord], *, counted: bool) -> list[list[Any]]:
        """`[place, label, counted]` of every run; its curve has this place in `drawn`."""
        found = []
        for record in records:
            self._records.setdefault(record.folder, record)
            place = self._places.setdefault(record.folder, len(self._places))
            found.append([place, f"seed {record.seed}", counted])
        return found

    def drawn(self) -> dict[str, list[Any]]:
        """The curves; equal lists of epochs stand once in `epochs`, a curve has its place there."""
        share = POINTS_OF_PAGE // max(1, len(self._records))
        points = max(LEAST_POINTS, min(POINTS_OF_RUN, share))
        curves = [learning_curve(record, points) for record in self._records.values()]
        every = list(dict.fromkeys(tuple(curve["epochs"]) for curve in curves))
        drawn = [{**curve, "epochs": every.index(tuple(curve["epochs"]))} for curve in curves]
        return {"epochs": [list(epochs) for epochs in every], "curves": drawn}


def _take(line: Mapping[str, str | None], metric: str, values: dict[int, float]) -> None:
    text, epoch = line.get(metric), line.get("epoch")
    if not text or not epoch:
        return
    try:
        values[int(float(epoch))] = float(text)
    except ValueError:  # the last line of a run that was killed may be half a line
        return


def _thinned(epochs: Sequence[int], points: int) -> list[int]:
    if len(epochs) <= points:
        return list(epochs)
    step = (len(epochs) - 1) / (points - 1)
    return [epochs[round(place * step)] for place in range(points)]


def _rounded(value: float | None, factor: float = 1.0, digits: int = 4) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value * factor:.{digits}g}")
