"""The plot of a comparison: published points against reproduced means with error bars."""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tables.comparison import Comparison, RowComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Blue and vermilion of the palette by Okabe and Ito: told apart by every kind of colour vision.
REPRODUCED, PUBLISHED = "#0072b2", "#d55e00"
MEAN: dict[str, Any] = {"markersize": 8, "markerfacecolor": "white", "markeredgewidth": 2}


def write_plot(comparison: Comparison, file: Path) -> None:
    """Draw a comparison as PNG.

    In each row the published number with its single runs stands above the reproduced mean with its
    standard deviation and its single runs.

    Args:
        comparison: What to draw.
        file: Where to write it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    table, rows = comparison.table, comparison.rows
    figure = Figure(figsize=(8, 1.8 + 0.9 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        _draw_published(axes, row, height)
        _draw_reproduced(axes, row, height)
    axes.set_yticks(range(len(rows)), [row.row.label for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    assert table.reproduce is not None
    axes.set_xlabel(f"{table.reproduce.quantity}, {comparison.unit}")
    axes.set_title(table.title, loc="left", fontweight="bold")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    _add_legend(axes)
    figure.savefig(file, dpi=150, metadata={"Software": None})


def _draw_published(axes: "Axes", row: RowComparison, height: float) -> None:
    if row.published is not None:
        place = ([row.published], [height - 0.1])
        axes.plot(*place, "D", color=PUBLISHED, **MEAN, label="published")
    if row.published_runs:
        _draw_single_runs(axes, row.published_runs, height - 0.24, PUBLISHED, "published")


def _draw_reproduced(axes: "Axes", row: RowComparison, height: float) -> None:
    if row.summary is None:
        return
    axes.errorbar(
        [row.summary.mean],
        [height + 0.1],
        xerr=None if row.summary.deviation is None else [row.summary.deviation],
        fmt="o",
        color=REPRODUCED,
        elinewidth=2,
        capsize=5,
        **MEAN,
        label="reproduced mean ± standard deviation",
    )
    _draw_single_runs(axes, row.values, height + 0.24, REPRODUCED, "reproduced")


def _draw_single_runs(
    axes: "Axes", values: Sequence[float], height: float, colour: str, whose: str
) -> None:
    heights = [height] * len(values)
    axes.plot(
        values, heights, "o", color=colour, alpha=0.5, ms=5, mew=0, label=f"{whose} single runs"
    )


def _add_legend(axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(sorted(zip(labels, handles, strict=True), key=itemgetter(0)))
    axes.figure.legend(
        unique.values(), unique.keys(), loc="outside lower center", ncols=2, frameon=False
    )
