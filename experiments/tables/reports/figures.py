"""What all plots of tables share: colours, how a figure is made, and how it is written."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blue and vermilion of the palette by Okabe and Ito: told apart by every kind of colour vision.
REPRODUCED, PUBLISHED = "#0072b2", "#d55e00"
# The others of that palette that are dark enough on white, and grey.
FURTHER = ("#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#808080")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", file: Path) -> None:
    """Write a figure as PNG or SVG, as the file's name says: equal figures give equal files."""
    from matplotlib import rc_context

    metadata: dict[str, Any] = {"Date": None} if file.suffix == ".svg" else {"Software": None}
    with rc_context({"svg.hashsalt": file.stem, "svg.fonttype": "none"}):
        figure.savefig(file, dpi=150, metadata=metadata)
