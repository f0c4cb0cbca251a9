"""Pictures: heat maps over images, attentions over warehouses, what D learned."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from experiments.explain.localisation import Box
from experiments.explain.looking import Look
from experiments.tables.reports.figures import REPRODUCED, new_figure
from lit_models.kernel_warehouse import SharedWarehouse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMALL = 7


def draw_heat_maps(looks: Sequence[Look], boxes: Mapping[str, list[Box]]) -> "Figure":
    """A grid: a line an image, which stands first, and a column a network.

    Above each heat map stands the class that it is evidence for, and its probability.
    """
    images = looks[0].views
    figure = new_figure(2.1 * (1 + len(looks)), 2.3 * len(images) + 0.7)
    axes = figure.subplots(len(images), 1 + len(looks), squeeze=False)
    for line, view in enumerate(images):
        _show_pixels(axes[line, 0], view.pixels)
        _draw_boxes(axes[line, 0], looks[0], line, boxes)
        axes[line, 0].set_title(_short(view.file.name, 26), fontsize=_SMALL)
        for column, look in enumerate(looks, start=1):
            place = axes[line, column]
            _show_pixels(place, look.views[line].pixels.mean(dim=0, keepdim=True))
            place.imshow(look.heat[line], cmap="turbo", vmin=0, vmax=1, alpha=0.55)
            _draw_boxes(place, look, line, boxes)
            name = look.subject.classes[int(look.targets[line])].split(",")[0]
            percent = 100 * look.probabilities[line].item()
            blank = "" if look.heat[line].any() else " (no evidence)"
            place.set_title(f"{_short(name, 20)} {percent:.1f}%{blank}", fontsize=_SMALL)
    for column, look in enumerate(looks, start=1):
        trained = "\nuntrained" if look.subject.weights.startswith("untrained") else ""
        head = f"{_short(look.subject.name.split('/')[-1], 30)}\n{look.layer}{trained}"
        place = axes[0, column]
        place.set_title(f"{head}\n{place.get_title()}", fontsize=_SMALL)
    return figure


def draw_attentions(
    warehouse: SharedWarehouse, attentions: Mapping[float, Mapping[str, Tensor]]
) -> "Figure":
    """Heat maps of mixtures x cells: a line a layer of the warehouse, a column a temperature.

    Each map has its own scale, written above it; the layer's own cells stand between the marks.

    Args:
        warehouse: The warehouse.
        attentions: By temperatures, coefficients `(mixtures, cells)` by the layers' names.
    """
    layers = list(warehouse.shelves.items())
    figure = new_figure(2.8 * len(attentions) + 0.5, 1.5 * len(layers) + 0.6)
    axes = figure.subplots(len(layers), len(attentions), squeeze=False)
    for line, (name, shelf) in enumerate(layers):
        for column, (temperature, by_layer) in enumerate(attentions.items()):
            place, values = axes[line, column], by_layer[name]
            highest = values.abs().max().item() or 1.0
            options = {"vmin": -highest, "vmax": highest}
            place.imshow(values, cmap="RdBu_r", aspect="auto", interpolation="nearest", **options)
            for edge in (shelf.first_cell - 0.5, shelf.first_cell + shelf.num_cells - 0.5):
                place.axvline(edge, color="0.3", linewidth=0.6, linestyle=":")
            head = f"temperature {temperature:g}\n" if line == 0 else ""
            place.set_title(f"{head}{_short(name, 30)}: ±{highest:.2g}", fontsize=_SMALL)
            place.tick_params(labelsize=_SMALL - 1)
            place.set_yticks(range(0, len(values), -(-len(values) // 4)))
        axes[line, 0].set_ylabel("mixture", fontsize=_SMALL)
    for place in axes[-1]:
        place.set_xlabel("cell", fontsize=_SMALL)
    return figure


def draw_distances(distances: Mapping[str, float]) -> "Figure":
    """A bar for each layer of DO-Conv: the relative distance of D from the identity."""
    figure = new_figure(6.5, 0.8 + 0.22 * len(distances))
    axes = figure.subplots()
    names = list(distances)
    axes.barh(range(len(names)), list(distances.values()), color=REPRODUCED)
    axes.set_yticks(range(len(names)), names, fontsize=_SMALL)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("‖D - identity‖ / ‖identity‖, Frobenius norms", fontsize=_SMALL + 1)
    axes.tick_params(axis="x", labelsize=_SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _show_pixels(axes: "Axes", pixels: Tensor) -> None:
    shown = pixels.permute(1, 2, 0) if len(pixels) == 3 else pixels[0]
    axes.imshow(shown, cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def _draw_boxes(axes: "Axes", look: Look, line: int, boxes: Mapping[str, list[Box]]) -> None:
    from matplotlib.patches import Rectangle

    view = look.views[line]
    left, top, right, bottom = view.window
    height, width = view.pixels.shape[1:]
    move = torch.tensor([left, top, left, top])
    scale = torch.tensor([width, height]).repeat(2) / torch.tensor([right - left, bottom - top] * 2)
    for box in boxes.get(view.file.name, []):
        x0, y0, x1, y1 = ((torch.tensor(box.edges) - move) * scale - 0.5).tolist()
        outline = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="white", linewidth=0.7)
        axes.add_patch(outline)


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
