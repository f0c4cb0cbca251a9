"""Shows what an architecture search has found: printed, as a picture, and as a file to train."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import yaml
from lightning.pytorch.utilities import rank_zero_only

from callbacks.media import log_media, writing
from lit_models.parameter_free.cells import Genotype, Nodes
from lit_models.parameter_free.operations import PARAMETER_FREE
from lit_models.parameter_free.search_module import ArchitectureSearch, parameter_free_shares

FILE_NAME = "genotype"
COLOURS = {
    "conv": "#b2182b",
    "depthwise_conv": "#ef8a62",
    "max_pool": "#2166ac",
    "avg_pool": "#67a9cf",
    "identity": "#4d4d4d",
}


class FoundCellCallback(L.Callback):
    """Writes the found cells to the run's folder at the end of the training.

    `genotype.yaml` is what the network `cell_network` takes as its `genotype`; `genotype.png` is a
    graph of every cell. The run record keeps the cells, and the share of operations without
    parameters in each.

    Raises:
        ValueError: The module that is trained is no search.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that cells are searched for."""
        if not isinstance(pl_module, ArchitectureSearch):
            raise ValueError(
                f"{type(pl_module).__name__} searches for no cells; leave FoundCellCallback out"
            )

    def run_facts(self) -> dict[str, Any]:
        """What the run record keeps."""
        return self._facts

    @rank_zero_only
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the cells."""
        assert isinstance(pl_module, ArchitectureSearch)
        genotype = pl_module.network.genotype()
        shares = parameter_free_shares(genotype, len(pl_module.network.cells))
        self._facts = {"genotype": as_lists(genotype), "parameter_free": shares}
        file = Path(trainer.default_root_dir) / f"{FILE_NAME}.yaml"
        with writing(FILE_NAME):
            file.write_text(as_yaml(genotype), encoding="utf-8")
            picture = file.with_suffix(".png")
            draw(genotype, picture)
            log_media(trainer, lambda wandb: {"found_cells": wandb.Image(str(picture))})
        print(describe(genotype))
        print(f"to train it: --model.init_args.backbone_args.genotype {file}")


def as_lists(genotype: Genotype) -> dict[str, list[list[list[int | str]]]]:
    """Return a genotype in lists, as files hold it."""
    return {
        name: [[list(edge) for edge in node] for node in nodes] for name, nodes in genotype.items()
    }


def as_yaml(genotype: Genotype) -> str:
    """Return a genotype as YAML, one line for each node."""
    lines = []
    for name, nodes in as_lists(genotype).items():
        lines.append(f"{name}:")
        for node in nodes:
            lines.append(f"- {yaml.safe_dump(node, default_flow_style=True, width=10_000).strip()}")
    return "\n".join([*lines, ""])


def describe(genotype: Genotype) -> str:
    """Return the cells in words, one line for each node."""
    lines = []
    for name, nodes in genotype.items():
        lines.append(f"{name}:")
        for index, node in enumerate(nodes):
            terms = " + ".join(f"{name_of(source)} {operation}" for source, operation in node)
            lines.append(f"  {name_of(index + 2)} = {terms}")
    return "\n".join(lines)


def name_of(state: int) -> str:
    """Return what a state of a cell is called: both inputs, then its nodes."""
    return ("before last", "last")[state] if state < 2 else f"node {state - 2}"


def draw(genotype: Genotype, file: Path) -> None:
    """Draw every cell as a graph, as PNG: operations without parameters are dashed.

    Args:
        genotype: The cells.
        file: Where to write it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(2, len(genotype))
    rows = -(-len(genotype) // columns)
    figure = Figure(figsize=(6.4 * columns, 3.2 * rows + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (name, nodes) in zip(grid, genotype.items(), strict=False):
        _draw_cell(axes, name, nodes)
    used = {operation for nodes in genotype.values() for node in nodes for _, operation in node}
    lines = {
        operation: Line2D([], [], color=colour, linestyle=_style(operation), linewidth=2)
        for operation, colour in COLOURS.items()
        if operation in used
    }
    figure.legend(
        list(lines.values()),
        list(lines),
        loc="outside lower center",
        ncols=len(lines),
        frameon=False,
    )
    figure.savefig(file, dpi=120, metadata={"Software": None})


def _draw_cell(axes: Any, name: str, nodes: Nodes) -> None:
    # Inputs on the left, nodes from left to right in waves, so that arrows hardly cover each other.
    places = [(0.0, 1.0), (0.0, -1.0)]
    places += [(1.3 * (i + 1), (0.0, 0.9, -0.9)[i % 3]) for i in range(len(nodes))]
    end = (1.3 * (len(nodes) + 1), 0.0)
    for state, place in enumerate(places):
        label = ("before\nlast", "last")[state] if state < 2 else str(state - 2)
        colour = "#dddddd" if state < 2 else "#ffffff"
        _box(axes, place, label, colour)
        if state >= 2:
            _arrow(axes, place, end, "#bbbbbb", ":", 0.0)
    _box(axes, end, "output", "#dddddd")
    for index, node in enumerate(nodes):
        for number, (source, operation) in enumerate(node):
            bend = 0.18 if number % 2 else -0.18
            style = _style(operation)
            _arrow(axes, places[source], places[index + 2], COLOURS[operation], style, bend)
    axes.set_title(name, loc="left")
    axes.set_xlim(-0.6, end[0] + 0.6)
    axes.set_ylim(-1.6, 1.6)


def _box(axes: Any, place: tuple[float, float], label: str, colour: str) -> None:
    box = {"boxstyle": "round,pad=0.35", "facecolor": colour, "edgecolor": "#555555"}
    axes.text(*place, label, ha="center", va="center", fontsize=9, bbox=box, zorder=3)


def _arrow(
    axes: Any,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    style: str,
    bend: float,
) -> None:
    properties = {
        "arrowstyle": "-|>",
        "color": colour,
        "linestyle": style,
        "linewidth": 1.8,
        "connectionstyle": f"arc3,rad={bend}",
        "shrinkA": 16,
        "shrinkB": 16,
    }
    axes.annotate("", end, start, arrowprops=properties)


def _style(operation: str) -> Literal["-", "--"]:
    return "--" if operation in PARAMETER_FREE else "-"
