"""The plot of a comparison: published points against reproduced means with error bars."""

from collections.abc import Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from experiments.tables.comparison import Comparison, RowComparison
from experiments.tables.reports.figures import PUBLISHED, REPRODUCED, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MEAN: dict[str, Any] = {"markersize": 8, "markerfacecolor": "white", "markeredgewidth": 2}
# Inches of a row that has single runs, and of one that has not.
TALL, SHORT = 0.9, 0.4


def draw_comparison(comparison: Comparison) -> "Figure | None":
    """Draw a comparison, a panel for each compared column.

    In each row the published number with its single runs stands above the reproduced mean with its
    standard deviation and its single runs, before the band that the mean is expected in.

    Returns:
        The figure; None if there is neither a published nor a reproduced number to compare.
    """
    panels = [one for one in (comparison, *comparison.also) if _has_points(one)]
    if not panels:
        return None
    rows = comparison.rows
    runs = any(row.values or row.published_runs for one in panels for row in one.rows)
    height = 1.8 + (TALL if runs else SHORT) * len(rows)
    figure = new_figure(3 + 5 * len(panels), height)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for one, place in zip(panels, axes, strict=True):
        _draw_panel(place, one)
    axes[0].set_yticks(range(len(rows)), [row.row.label for row in rows])
    axes[0].set_ylim(len(rows) - 0.45, -0.55)
    # The title is left of everything and wraps; that of an axes would not.
    figure.suptitle(comparison.table.title, x=0.01, ha="left", fontweight="bold", wrap=True)
    _add_legend(axes)
    return figure


def _has_points(comparison: Comparison) -> bool:
    return any(row.target is not None or row.summary for row in comparison.rows)


def _draw_panel(axes: "Axes", comparison: Comparison) -> None:
    for height, row in enumerate(comparison.rows):
        _draw_band(axes, row, height)
        _draw_published(axes, row, height)
        _draw_reproduced(axes, row, height)
    assert comparison.reproduce is not None
    axes.set_xlabel(f"{comparison.reproduce.quantity}, {comparison.unit}")
    axes.grid(axis="x", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_band(axes: "Axes", row: RowComparison, height: float) -> None:
    if row.band is not None and row.summary is not None:
        width = row.band.high - row.band.low
        axes.barh(
            height, width, 0.7, row.band.low, color="0.93", zorder=0, label="expected mean here"
        )


def _draw_published(axes: "Axes", row: RowComparison, height: float) -> None:
    if row.target is not None:
        place = ([row.target], [height - 0.1])
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


def _add_legend(panels: "Sequence[Axes]") -> None:
    found = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in panels]
    unique = {label: handle for panel in found for handle, label in panel}
    labels, handles = zip(*sorted(unique.items(), key=itemgetter(0)), strict=True)
    panels[0].figure.legend(
        handles, labels, loc="outside lower center", ncols=min(len(labels), 3), frameon=False
    )
