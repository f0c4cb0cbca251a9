"""The file `table.csv`: the comparison as numbers, a line for each row."""

import csv
from pathlib import Path
from typing import Any

from experiments.tables.comparison import Comparison, RowComparison
from experiments.tables.static import StaticColumns


def write_table_csv(comparison: Comparison, file: Path) -> None:
    """Write every published number and all that was computed and reproduced, unrounded.

    A published column has its own name; what is reproduced of it has that name and a word for what
    it is (`top1`, `top1_mean`, `top1_deviation`, ...). Missing numbers are empty.
    """
    lines = [_line(comparison, place) for place in range(len(comparison.rows))]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(lines[0]) if lines else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def _line(comparison: Comparison, place: int) -> dict[str, Any]:
    first = comparison.rows[place]
    row = first.row
    line: dict[str, Any] = {"row": row.key, "label": row.label, "config": row.config}
    line |= row.values
    for one in (comparison, *comparison.also):
        if one.reproduce:
            line |= _reproduced(one.reproduce.column, one.rows[place])
    for column in comparison.table.columns if comparison.defined else ():
        line[f"{column.name}_computed"] = comparison.defined.get(row.key, {}).get(column.name)
    for name in StaticColumns._fields:
        line[f"counted_{name}"] = getattr(first.costs, name) if first.costs else None
    return line


def _reproduced(column: str, row: RowComparison) -> dict[str, Any]:
    summary, band, gain = row.summary, row.band if row.summary else None, row.gain
    interval, paired = (gain.interval, gain.paired) if gain else (None, None)
    numbers = {
        "target": row.target,
        "mean": summary.mean if summary else None,
        "deviation": summary.deviation if summary else None,
        "n": summary.n if summary else 0,
        "difference": row.difference,
        "expected_low": band.low if band else None,
        "expected_high": band.high if band else None,
        "verdict": row.verdict.value,
        "gain": gain.difference if gain else None,
        "gain_low": interval.low if interval else None,
        "gain_high": interval.high if interval else None,
        "pairs": paired.n if paired else None,
        "paired_gain": paired.difference if paired else None,
        "paired_low": paired.interval.low if paired else None,
        "paired_high": paired.interval.high if paired else None,
        "paired_p": paired.p if paired else None,
    }
    return {f"{column}_{name}": value for name, value in numbers.items()}
