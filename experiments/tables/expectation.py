"""What a reproduced number is expected to be, the verdict on it, and what may explain it."""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from experiments.record import RunRecord
from experiments.tables.spec import Expected, RowSpec, TableSpec
from experiments.tables.statistics import Summary, prediction_margin, summarise

# What one batch and all epochs are called among the published facts of a table or a row.
BATCH, EPOCHS = ("global_batch", "batch"), ("epochs",)


# Origins of a band.
STATED = "stated in the table"
PUBLISHED = "spread of the published runs"
REPRODUCED = "spread of the runs here"


class Verdict(StrEnum):
    """How a reproduced number stands to its expected band."""

    WITHIN = "within"
    BELOW = "below"
    ABOVE = "above"
    NOT_RUN = "not run"
    NOTHING_PUBLISHED = "nothing published"
    NO_BAND = "no band"

    @property
    def outside(self) -> bool:
        """Whether the number left its band."""
        return self in (Verdict.BELOW, Verdict.ABOVE)


class Band(NamedTuple):
    """Where a reproduced mean is expected: from `low` to `high`, and what says so."""

    low: float
    high: float
    origin: str


def expected_band(
    stated: Expected | None,
    published: float | None,
    published_runs: Sequence[float],
    reproduced: Summary | None,
) -> Band | None:
    """The band that a row's mean is expected in, in the unit of its column.

    What the table states comes first. Otherwise it is Student's 95 % prediction interval around the
    published number, from the larger of two spreads: that of the published single runs and that of
    the runs here. (Runs may have been published that share a seed: too small a spread.) A number
    that was published without its runs is taken as one run.

    Returns:
        None where nothing was published, or nothing says how far runs spread.
    """
    if published is None:
        return None
    if stated is not None:
        return Band(published - stated.below, published + stated.above, STATED)
    if reproduced is None:
        return None
    spreads = [
        (summary.deviation, summary.n, origin)
        for summary, origin in ((summarise(published_runs), PUBLISHED), (reproduced, REPRODUCED))
        if summary and summary.deviation
    ]
    if not spreads:
        return None
    deviation, n, origin = max(spreads)
    margin = prediction_margin(deviation, n, max(1, len(published_runs)), reproduced.n)
    return Band(published - margin, published + margin, origin)


def judge(published: float | None, reproduced: Summary | None, band: Band | None) -> Verdict:
    """The verdict on a row's mean; a band's ends belong to it."""
    if reproduced is None:
        return Verdict.NOT_RUN
    if published is None:
        return Verdict.NOTHING_PUBLISHED
    if band is None:
        return Verdict.NO_BAND
    # Bands are sums of decimal numbers: an end is not missed by a rounding error.
    if reproduced.mean < band.low - 1e-9:
        return Verdict.BELOW
    return Verdict.ABOVE if reproduced.mean > band.high + 1e-9 else Verdict.WITHIN


def explanations(
    table: TableSpec, row: RowSpec, records: Sequence[RunRecord], recipe: Path | None = None
) -> tuple[str, ...]:
    """What differs between a row's runs and the published ones, as run records and table say.

    Args:
        table: The table, with the published data set and protocol.
        row: The row; its `variant` speaks before the table's protocol.
        records: The runs that count.
        recipe: The recipe above the row's config, None for the row as it is.
    """
    if not records:
        return ()
    found = [f"trained with {recipe}"] if recipe else []
    found += [difference for record in records for difference in _differences(table, row, record)]
    if len(records) == 1:
        found.append("one seed only")
    return tuple(dict.fromkeys(found))


def _differences(table: TableSpec, row: RowSpec, record: RunRecord) -> Iterator[str]:
    facts = record.facts
    published, epochs = _published(table, row, EPOCHS), facts.get("epochs")
    if published is not None and epochs is not None and epochs != published:
        yield f"{epochs} epoch{'' if epochs == 1 else 's'}, published with {published}"
    data = facts.get("data") or {}
    dataset = str(row.variant.get("dataset") or table.dataset)
    if (name := data.get("name")) and not _names(dataset, name):
        yield f"trained on {name}, published for {dataset}"
    elif (classes := data.get("classes")) and (all_ := _classes(dataset)) and classes != all_:
        yield f"{classes} classes of {name}, published for {all_}"
    published, batch = _published(table, row, BATCH), (facts.get("batch") or {}).get("global")
    if published is not None and batch is not None and batch != published:
        yield f"{batch} images a step, published with {published}"


def _published(table: TableSpec, row: RowSpec, names: Sequence[str]) -> int | None:
    """The first of these facts that was published as a number."""
    for facts in (row.variant, table.protocol):
        for name in names:
            value: Any = facts.get(name)
            if isinstance(value, int):
                return value
    return None


def _names(dataset: str, name: str) -> bool:
    """Whether a description such as `CIFAR-100, test set` names the data set."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", dataset, re.IGNORECASE) is not None


def _classes(dataset: str) -> int | None:
    """Number of classes in a name such as ImageNet-1k."""
    found = re.search(r"ImageNet-(\d+)k", dataset, re.IGNORECASE)
    return int(found[1]) * 1000 if found else None
