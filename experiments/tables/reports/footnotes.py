"""What a reader has to know about a comparison, in sentences: under every report's table."""

from collections.abc import Iterator, Sequence

from experiments.tables.cells import UNIT_SIGNS, interval_text
from experiments.tables.comparison import Comparison
from experiments.tables.expectation import STATED


def footnotes(comparison: Comparison) -> list[str]:
    """What a reader has to know about the columns."""
    lines = []
    rows = comparison.rows
    for one in (comparison, *comparison.also):
        if one.reproduce:
            metric, column = one.reproduce.metric, one.table.column(one.reproduce.column)
            if one.reproduce.complement:
                metric = f"1 - {metric}"
            meaning = f"{one.reproduce.quantity} ({metric}); published: {column.meaning}"
            lines.append(f"{column.name}: {meaning}" if comparison.also else meaning)
    if not comparison.reproduce:
        return lines
    if not comparison.records:
        return [*lines, "no run counts yet: published and computed numbers only"]
    lines[0] += (
        "; reproduced: mean ± sample standard deviation of n runs with different seeds, after the "
        "last epoch"
    )
    if any(row.published_summary for row in rows):
        lines.append("± beside a published number is computed from the published single runs")
    if any(row.published is None and row.target is not None for row in rows):
        lines.append(
            "a published number in brackets is the baseline's plus the published gain, which is "
            "all that was published of the row"
        )
    origins = {row.band.origin: None for row in rows if row.band and row.summary}
    if origins:
        lines.append(_about_bands(list(origins)))
    if comparison.reproduce.gain:
        lines += _about_gains(comparison)
    return lines


def _about_bands(origins: Sequence[str]) -> str:
    text = "expected: where the reproduced mean should lie"
    if STATED in origins:
        text += "; the margins around the published number are stated in the table's file"
    if spreads := [origin for origin in origins if origin != STATED]:
        text += (
            "; without stated margins, 95 % prediction interval (Student's t) around the published "
            f"number from the {' or the '.join(spreads)}, whichever is larger"
        )
    return text


def _about_gains(comparison: Comparison) -> Iterator[str]:
    table = comparison.table
    baselines = {row.label for each in table.rows if (row := table.baseline(each))}
    over = baselines.pop() if len(baselines) == 1 else "the row's own baseline"
    yield (
        f"gain: difference of the means over {over}, with its 95 % confidence interval "
        "(Welch's t); there is none for less than two runs on a side, or without any spread"
    )
    if any(row.gain and row.gain.paired for row in comparison.rows):
        yield (
            "paired: mean difference of the runs that share a seed with a run of the baseline "
            "(given where these are not all), its 95 % confidence interval and p of the paired "
            "t-test (two-sided); pairs: number of these seeds"
        )


def deviations(comparison: Comparison) -> list[str]:
    """A line for each row outside its expected band: how far, and what differs from published."""
    lines = []
    for one in (comparison, *comparison.also):
        for row in one.rows:
            if row.verdict.outside:
                assert one.reproduce is not None
                assert row.band is not None
                unit = UNIT_SIGNS.get(one.unit, one.unit)
                why = "; ".join(row.explanations) or "nothing that the run records tell"
                why += "; see the remarks" if one.table.remarks else ""
                lines.append(
                    f"{row.row.label}: {one.reproduce.column} {row.verdict.value} the expected "
                    f"{interval_text(row.band, one.decimals)} {unit} ({row.band.origin}); "
                    f"what differs from the published runs: {why}"
                )
    return lines
