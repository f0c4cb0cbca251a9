from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.text import Annotation

from experiments.record import RunRecord
from experiments.tables.comparison import compare
from experiments.tables.reports.family_plot import draw_family
from experiments.tables.table_files import load_table


def axes_of_many(
    content: dict[str, Any], write_table: Callable[..., Path], accuracies: list[float]
) -> Axes:
    """The plot of a table of rows with these published accuracies and 1, 2, 3, ... M parameters."""
    content["columns"].append(
        {"name": "params", "unit": "M", "meaning": "parameters", "better": None}
    )
    content["reproduce"] |= {"runs": [], "gain": None}
    empty = dict.fromkeys(("run1", "run2", "gain"))
    content["rows"] = [
        {
            "key": f"row{n}",
            "label": f"Network {n}",
            "config": None,
            "values": {**empty, "avg": accuracy, "params": n},
        }
        for n, accuracy in enumerate(accuracies, 1)
    ]
    write_table(content)
    figure = draw_family(compare(load_table("small"), Path("runs")), "fused")
    assert figure is not None
    return figure.axes[0]


def test_labels_of_near_points_do_not_cover_each_other(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    axes = axes_of_many(content, write_table, [70.0, 70.01, 70.02, 70.0, 70.01, 90.0])
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert [label.get_text() for label in labels] == [f"Network {n}" for n in range(1, 7)]
    boxes = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for n, a in enumerate(boxes) for b in boxes[:n])


def test_a_point_without_room_for_a_label_has_none(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    axes = axes_of_many(content, write_table, [70.0] * 80)
    labels = [text for text in axes.texts if isinstance(text, Annotation)]
    assert 5 < len(labels) < 80


def test_costs_within_a_decade_are_drawn_on_a_linear_axis(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    assert axes_of_many(content, write_table, [70.0] * 4).get_xscale() == "linear"


def test_published_is_hollow_and_reproduced_filled(
    content: dict[str, Any],
    write_table: Callable[..., Path],
    record_run: Callable[..., RunRecord],
) -> None:
    for row in ("baseline", "operator"):
        for seed in (7, 8):
            cost = {"training": 9, "fused": 1000 if row == "baseline" else 20_000}
            record_run(row, seed, 0.9 + seed / 100, parameters=cost, multiply_adds=5)
    comparison = compare(load_table("small"), Path("runs"), costs=True)
    figure = draw_family(comparison, "fused")
    assert figure is not None
    (axes,) = figure.axes
    markers = [line for line in axes.lines if line.get_marker() == "o"]
    faces = {line.get_markerfacecolor() for line in markers}
    assert len(markers) == 4
    assert "white" in faces
    assert len(faces) == 2
    assert axes.get_xscale() == "log"
    # All networks have as many multiply-adds: nothing to plot against.
    assert draw_family(comparison, "multiply_adds") is None


@pytest.mark.usefixtures("table")
def test_rows_without_costs_are_not_drawn() -> None:
    assert draw_family(compare(load_table("small"), Path("runs")), "fused") is None
