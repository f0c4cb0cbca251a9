"""Accuracy against what a network costs, for all rows of a table: as the papers plot families."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from experiments.tables.agreement import SCALES, cost_of_column
from experiments.tables.comparison import Comparison, RowComparison
from experiments.tables.reports.figures import FURTHER, PUBLISHED, REPRODUCED, new_figure
from experiments.tables.speed import times_of_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

Cost = Literal["fused", "multiply_adds", "time"]
COSTS: dict[Cost, str] = {
    "fused": "parameters of the deployed network",
    "multiply_adds": "multiply-adds for one image",
    "time": "time for one image",
}
# Where a label may stand around its point, in points: near places first, then those further off.
PLACES = [
    (x * far, y * far)
    for far in (1, 2, 3.5, 5)
    for x, y in ((8, 0), (-8, 0), (0, 9), (0, -9), (7, 7), (-7, 7), (7, -7), (-7, -7))
]


class Point(NamedTuple):
    """A row in the plot: its cost and its numbers."""

    cost: float
    row: RowComparison

    @property
    def heights(self) -> list[float]:
        """The published number and the reproduced mean, as far as there are any."""
        mean = self.row.summary.mean if self.row.summary else None
        return [number for number in (self.row.target, mean) if number is not None]


def draw_family(comparison: Comparison, cost: Cost) -> "Figure | None":
    """Draw published numbers (hollow) and reproduced means (filled) against a cost.

    Args:
        comparison: A comparison with costs.
        cost: Which of the costs.

    Returns:
        The figure; None where less than two rows have a number and a cost, or all costs are one.
    """
    where, times = "", dict[str, float]()
    if cost == "time":
        where, times = times_of_images([row.row.name for row in comparison.rows])
    points = list(_points(comparison, cost, times))
    if len({point.cost for point in points}) < 2:
        return None
    assert comparison.reproduce is not None
    figure = new_figure(9, 6)
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(_group(point) for point in points))
    palette = [REPRODUCED, PUBLISHED, *FURTHER]
    for point in points:
        colour = palette[groups.index(_group(point)) % len(palette)]
        _draw_point(axes, point, colour)
    costs = [point.cost for point in points]
    if max(costs) >= 10 * min(costs):
        _make_logarithmic(axes)
    axes.margins(0.08)
    axes.xaxis.set_major_formatter(_engineering("s" if cost == "time" else ""))
    axes.set_xlabel(", ".join(filter(None, (COSTS[cost], where))))
    axes.set_ylabel(f"{comparison.reproduce.quantity}, {comparison.unit}")
    axes.grid(color="0.92", which="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(comparison.table.title, x=0.01, ha="left", fontweight="bold", wrap=True)
    _add_legend(figure, points, groups, palette)
    _add_labels(axes, points)
    return figure


def _points(comparison: Comparison, cost: Cost, times: Mapping[str, float]) -> Iterator[Point]:
    for row in comparison.rows:
        name = row.row.name or ""
        value = times.get(name) if cost == "time" else _cost(comparison, row, cost)
        point = Point(value or 0, row)
        if value and point.heights:
            yield point


def _cost(comparison: Comparison, row: RowComparison, cost: Cost) -> float | None:
    """As computed, else as published."""
    if row.costs:
        known: int | None = getattr(row.costs, cost)
        return None if known is None else float(known)
    for column in comparison.table.columns:
        published = row.row.values[column.name]
        scale = SCALES.get(column.unit)
        if published is not None and scale and _is_of(column.name, cost):
            return published * scale
    return None


def _is_of(column: str, cost: Cost) -> bool:
    found = cost_of_column(column)
    return found == cost or (found == "training" and cost == "fused")


def _group(point: Point) -> str:
    variant = point.row.row.variant
    return str(variant.get("family") or "").replace("_", " ")


def _draw_point(axes: "Axes", point: Point, colour: str) -> None:
    row = point.row
    if row.target is not None:
        axes.plot(point.cost, row.target, "o", color=colour, mfc="white", mew=1.8, ms=8)
    if row.summary is not None:
        deviation = row.summary.deviation
        axes.errorbar(
            point.cost, row.summary.mean, deviation, fmt="o", color=colour, capsize=4, ms=8
        )
        if row.target is not None:
            pair = [row.target, row.summary.mean]
            axes.plot([point.cost] * 2, pair, color=colour, lw=1, alpha=0.5)


def _make_logarithmic(axes: "Axes") -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _engineering(unit: str) -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(unit, sep=" ")


def _add_legend(
    figure: "Figure", points: Sequence[Point], groups: Sequence[str], palette: Sequence[str]
) -> None:
    from matplotlib.lines import Line2D

    neutral: dict[str, Any] = {"color": "0.4", "marker": "o", "ls": "", "ms": 8}
    handles = []
    if any(point.row.target is not None for point in points):
        handles.append(Line2D([], [], mfc="white", mew=1.8, label="published", **neutral))
    if any(point.row.summary for point in points):
        handles.append(Line2D([], [], label="reproduced mean ± standard deviation", **neutral))
    if len(groups) > 1:
        handles += [
            Line2D([], [], color=palette[place % len(palette)], lw=6, label=group or "other")
            for place, group in enumerate(groups)
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _add_labels(axes: "Axes", points: Sequence[Point]) -> None:
    """Name every point that has room for its name; far names get a line."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the places of points on the paper are known from here on
    taken: list[Bbox] = [_around(axes, point.cost, y) for point in points for y in point.heights]
    for point in points:
        label = axes.annotate(
            point.row.row.label,
            (point.cost, point.heights[0]),
            xytext=PLACES[0],
            textcoords="offset points",
            fontsize="x-small",
            arrowprops={"arrowstyle": "-", "color": "0.6", "lw": 0.6, "shrinkA": 0, "shrinkB": 5},
        )
        label.arrow_patch.set_visible(False)  # type: ignore[union-attr]
        if not _place(label, axes, taken):
            label.remove()


def _place(label: Any, axes: "Axes", taken: list["Bbox"]) -> bool:
    """Put a label where nothing is yet, and note that; returns whether there is such a place."""
    from matplotlib.text import Text

    for x, y in PLACES:
        _put(label, x, y)
        label.get_window_extent()  # with its line; from here on its place is known
        box = Text.get_window_extent(label)
        inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        if inside and not any(box.overlaps(other) for other in taken):
            label.arrow_patch.set_visible(max(abs(x), abs(y)) > 10)
            taken.append(box)
            return True
    return False


def _put(label: Any, x: float, y: float) -> None:
    label.set_position((x, y))
    label.set_ha("left" if x > 0 else "right" if x < 0 else "center")
    label.set_va("bottom" if y > 0 else "top" if y < 0 else "center")


def _around(axes: "Axes", x: float, y: float) -> "Bbox":
    from matplotlib.transforms import Bbox

    across, up = axes.transData.transform((x, y))
    return Bbox.from_bounds(across - 10, up - 10, 20, 20)
