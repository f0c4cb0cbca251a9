"""`table check`: does every number still lie where it is expected?"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from experiments.tables.agreement import Agreement, agreements
from experiments.tables.cells import CellColumn, interval_text, number
from experiments.tables.comparison import Comparison, RowComparison
from experiments.tables.expectation import Verdict


class Finding(NamedTuple):
    """One checked number, as text, and whether the check fails by it.

    Attributes:
        row: Key of the row.
        what: The column.
        published: The published number.
        found: The reproduced mean or the computed number.
        band: Where it is expected; empty for a computed number, which has to agree.
        verdict: The verdict in words.
        fails: Whether it is not as expected.
    """

    row: str
    what: str
    published: str
    found: str
    band: str
    verdict: str
    fails: bool


def findings(comparison: Comparison, require_runs: bool = False) -> list[Finding]:
    """Check every reproduced and every computed number of a table.

    Args:
        comparison: A comparison with costs.
        require_runs: Whether a row fails that has a config, a published number and no run.
    """
    return [
        finding
        for place, row in enumerate(comparison.rows)
        for finding in (
            *_of_runs(comparison, place, require_runs),
            *_of_costs(comparison, row),
        )
    ]


def finding_columns(found: Sequence[Finding]) -> list[CellColumn]:
    """Findings as columns to print, one line each."""
    tones = ["bad" if finding.fails else "" for finding in found]
    return [
        CellColumn("row", [finding.row for finding in found]),
        CellColumn("what", [finding.what for finding in found]),
        CellColumn("published", [finding.published for finding in found]),
        CellColumn("here", [finding.found for finding in found], tones=tones),
        CellColumn("expected", [finding.band for finding in found]),
        CellColumn("verdict", [finding.verdict for finding in found], words=True, tones=tones),
    ]


def _of_runs(comparison: Comparison, place: int, require_runs: bool) -> Iterator[Finding]:
    for one in (comparison, *comparison.also):
        row = one.rows[place]
        if one.reproduce and row.row.config and row.target is not None:
            yield _of_mean(one, row, require_runs)


def _of_mean(comparison: Comparison, row: RowComparison, require_runs: bool) -> Finding:
    assert comparison.reproduce is not None
    decimals, verdict = comparison.decimals, row.verdict
    missing = require_runs and verdict is Verdict.NOT_RUN
    why = f": {'; '.join(row.explanations)}" if verdict.outside and row.explanations else ""
    return Finding(
        row=row.row.key,
        what=comparison.reproduce.column,
        published=number(row.target, decimals),
        found=number(row.summary.mean if row.summary else None, decimals),
        band=interval_text(row.band, decimals) if row.band else "",
        verdict=verdict.value + why,
        fails=verdict.outside or missing,
    )


def _of_costs(comparison: Comparison, row: RowComparison) -> Iterator[Finding]:
    defined = comparison.defined.get(row.row.key, {})
    for one in agreements(comparison.table, row.row, row.costs, defined):
        decimals = comparison.table.decimals(one.column)
        yield Finding(
            row=row.row.key,
            what=one.column,
            published=number(one.published, decimals),
            found=number(one.computed, decimals + 2),
            band="",
            verdict=_verdict(one),
            fails=not one.as_stated,
        )


def _verdict(one: Agreement) -> str:
    if one.otherwise is None:
        return "agrees" if one.agrees else "differs"
    if one.agrees:
        return f"agrees, but the table says otherwise: {one.otherwise}"
    return f"differs as known: {one.otherwise}"
