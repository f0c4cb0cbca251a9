"""One self-contained HTML page: pictures and tables of what was found out about networks."""

import base64
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from torch import Tensor

from experiments.explain.localisation import Localisation
from experiments.explain.looking import Look
from experiments.explain.warehouses import WarehouseLook
from experiments.tables.page.elements import as_html, element, head, items, scrolling
from experiments.whole_file import whole_file

_USES = ("unused cells", "used by one layer", "by several", "by at most", "layers a cell")

# Pictures are as wide as they are; those of tables are small.
_STYLE = "figure { max-width: none; } img { max-width: 100%; background: white; }"


def write_page(file: Path, title: str, sections: Sequence[Element | None]) -> None:
    """Write the page; its pictures are inside it."""
    css = (
        resources.files("experiments.tables.page").joinpath("page.css").read_text(encoding="utf-8")
    )
    allowed = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=allowed),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("link", rel="icon", href="data:,"),
            element("title", title),
            element("style", css + _STYLE),
        ),
        element(
            "body",
            element("header", element("h1", title)),
            element("main", *(section for section in sections if section is not None)),
            element("footer"),
        ),
        lang="en",
    )
    with whole_file(file) as aside:
        aside.write_text(f"<!doctype html>\n{as_html(page)}\n", encoding="utf-8")


def heat_section(looks: Sequence[Look], picture: Path) -> Element:
    """Where the networks look: facts of each, and the grid of heat maps."""
    lines = (
        [
            one.subject.name,
            one.subject.weights,
            str(one.layer),
            "x".join(map(str, one.subject.size)),
        ]
        for one in looks
    )
    remarks = [
        f"{looks[0].method}: what in the layer's map speaks for the class, each map by its own "
        "maximum. `no evidence`: nothing in the map speaks for it, by this method; where the "
        "classifier has weights of its own for each place, hires-cam may show what grad-cam hides.",
        "Above each map: the class that it is evidence for, and the probability of this class.",
        "A network sees the largest part of an image that has its proportions.",
    ]
    return element(
        "section",
        element("h2", "Where it looks"),
        _table(["network", "weights", "layer", "image"], lines, "Networks"),
        _figure(picture, "Heat maps of all networks"),
        items(remarks),
    )


def localisation_section(looks: Sequence[Look]) -> Element | None:
    """How well the heat maps lie on objects; None without boxes."""
    lines = []
    for one in looks:
        for against, found in (
            ("all objects", one.agnostic),
            ("objects of the class", one.by_class),
        ):
            if found:
                lines.append([one.subject.name, against, *_numbers(found)])
            elif against == "objects of the class" and one.agnostic:
                lines.append([one.subject.name, against, "0", *[""] * 4])
    if not any(one.agnostic for one in looks):
        return None
    remarks = [
        "Pointing game: how often the maximum of the heat map lies in a box (no tolerance).",
        "Energy: how much of the heat lies in the boxes. Box area: how much of the image does, "
        "which is what a map without any preference reaches in both.",
        "All objects (class-agnostic): evidence for the class shown above, boxes of all objects, "
        "whatever they are.",
        "Objects of the class: evidence for a category that the image has and the network has a "
        "class for, by name; boxes of that category.",
        "A map without evidence (blank) is a miss.",
    ]
    headers = ["network", "boxes", "maps", "pointing game", "energy", "box area", "blank"]
    return element(
        "section",
        element("h2", "How well it localises"),
        _table(headers, lines, "Localisation"),
        items(remarks),
    )


def warehouse_section(name: str, looks: Sequence[WarehouseLook], pictures: Sequence[Path]) -> Any:
    """The warehouses of a network; None if it has none."""
    if not looks:
        return None
    parts: list[Element | None] = []
    for number, (found, picture) in enumerate(zip(looks, pictures, strict=True), start=1):
        cells, layers = found.warehouse.num_cells, len(found.warehouse.shelves)
        parts += [
            element("h3", f"Warehouse {number}: {cells} cells, {layers} layers"),
            _figure(picture, "Mean attention of each mixture to each cell, at three temperatures"),
            _table(
                ["temperature", *_USES],
                (
                    [f"{temperature:g}", *_cell_counts(one.layers_per_cell)]
                    for temperature, one in found.sharing.items()
                ),
                "By how many layers cells are used",
            ),
            _table(
                ["layer", "mixtures", "own cells", *_by_temperature(found)],
                (_layer_line(found, layer) for layer in found.warehouse.shelves),
                "Layers",
            ),
        ]
    remarks = [
        "Temperature 1: every mixture is the cell that it was given; 0: what was learned alone.",
        "A layer uses a cell if a mixture of it gives the cell at least an equal part of its "
        "attention.",
        "Effective cells: exp(entropy) of a mixture's magnitudes, the mean over the layer's "
        "mixtures. At home: the part of the attention that goes to the layer's own cells.",
    ]
    return element("section", element("h2", f"Warehouses of {name}"), *parts, items(remarks))


def distance_section(name: str, distances: dict[str, float], picture: Path | None) -> Any:
    """What D learned; None without DO-Conv."""
    if not distances or picture is None:
        return None
    lines = ([layer, f"{distance:.4g}"] for layer, distance in distances.items())
    return element(
        "section",
        element("h2", f"What D learned in {name}"),
        element(
            "p",
            "‖D - identity‖ / ‖identity‖, Frobenius norms: 0 where D is what it was at first.",
            class_="quiet",
        ),
        _figure(picture, "Distance of D from the identity, by layer"),
        _table(["layer", "distance"], lines, "Distances"),
    )


def _numbers(found: Localisation) -> list[str]:
    shares = (found.pointing, found.energy, found.area)
    return [str(found.maps), *(f"{100 * share:.1f}%" for share in shares), str(found.blank)]


def _cell_counts(layers_per_cell: Tensor) -> list[str]:
    numbers = [(layers_per_cell == 0).sum(), (layers_per_cell == 1).sum()]
    numbers += [(layers_per_cell > 1).sum(), layers_per_cell.max()]
    mean = layers_per_cell.double().mean().item()
    return [*(str(int(number)) for number in numbers), f"{mean:.2f}"]


def _by_temperature(found: WarehouseLook) -> list[str]:
    return [
        f"{what} at {value:g}" for what in ("effective cells", "at home") for value in found.sharing
    ]


def _layer_line(found: WarehouseLook, layer: str) -> list[str]:
    shelf = found.warehouse.shelves[layer]
    cells = (one.cells_per_mixture[layer].mean().item() for one in found.sharing.values())
    home = (one.at_home[layer] for one in found.sharing.values())
    return [
        layer,
        str(shelf.mixtures),
        str(shelf.num_cells),
        *(f"{number:.2f}" for number in cells),
        *("" if share is None else f"{100 * share:.1f}%" for share in home),
    ]


def _table(headers: Sequence[str], lines: Iterable[Sequence[str]], label: str) -> Element:
    rows = (
        element(
            "tr",
            element("th", first, scope="row"),
            *(element("td", text, class_=None if text else "empty") for text in others),
        )
        for first, *others in lines
    )
    table = element("table", head(headers), *(element("tbody", row) for row in rows))
    table.set("class", "results")
    return scrolling(table, label)


def _figure(picture: Path, caption: str) -> Element:
    content = base64.b64encode(picture.read_bytes()).decode()
    image = element("img", src=f"data:image/png;base64,{content}", alt=caption)
    return element("figure", image, element("figcaption", caption))
