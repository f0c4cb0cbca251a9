"""`explain`: where networks look, and what their operators learned.

Grad-CAM over images, a column a network; how well the heat lies on annotated objects; the
attentions of KernelWarehouse over its warehouses; what the D of DO-Conv learned. Written as
pictures, as numbers (explain.json) and as one self-contained page (explain.html).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.bench.options import whole_number
from experiments.command_parser import CommandParser
from experiments.compose import ConfigError
from experiments.whole_file import whole_file

METHODS = ("grad-cam", "hires-cam")

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from matplotlib.figure import Figure

    from experiments.explain.looking import Look

EPILOG = """\
  explain 20260101-120000-abcd --images photos                a run, by its last checkpoint
  explain imagenet/r50_hybrid deit_tiny_patch16_224 --images photos --boxes annotations.json
  explain resnet50_hybrid --weights official.pth --images photos --target "golden retriever"
"""


def main(arguments: Sequence[str]) -> int:
    """Explain networks; returns the exit status.

    Raises:
        ConfigError: A network, an image, a layer or a class is not there.
        SystemExit: The command line is wrong.
    """
    given = _parser().parse_args(arguments[1:])
    # Only now: help is answered without.
    from experiments.explain.cam import require_captum
    from experiments.explain.localisation import read_boxes
    from experiments.explain.looking import look
    from experiments.explain.pictures import find_images
    from experiments.explain.subjects import find_networks

    require_captum()
    boxes = read_boxes(given.boxes) if given.boxes else {}
    files = find_images(given.images, given.count, set(boxes) if given.boxes else None)
    subjects = find_networks(given.networks, given.runs, given.checkpoint, given.weights)
    looks = []
    for subject in subjects:
        found = look(subject, files, given.layer, given.target, boxes, given.method)
        _print(found)
        looks.append(found)
    alone = subjects[0].folder if len(subjects) == 1 else None
    folder = given.out or (alone or given.runs) / "explain"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: cannot make {folder} ({error.strerror})") from error
    _write(looks, boxes, folder)
    return 0


def _write(looks: "list[Look]", boxes: dict[str, Any], folder: Path) -> None:
    from experiments.explain.figures import draw_heat_maps
    from experiments.explain.page import heat_section, localisation_section, write_page

    picture = _save(draw_heat_maps(looks, boxes), folder / "heat_maps.png")
    sections = [heat_section(looks, picture), localisation_section(looks)]
    facts = []
    for number, one in enumerate(looks, start=1):
        prefix = f"{number}_" if len(looks) > 1 else ""
        facts.append(_facts(one))
        sections += _warehouses(one, folder, prefix, facts[-1])
        sections += _distances(one, folder, prefix, facts[-1])
    with whole_file(folder / "explain.json") as aside:
        aside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    page = folder / "explain.html"
    write_page(page, ", ".join(one.subject.name for one in looks), sections)
    print(f"wrote {page}, explain.json and the pictures beside them")


def _print(found: "Look") -> None:
    """Print what a network's heat maps are of, and how well they localise."""
    subject = found.subject
    print(f"{subject.name}: {subject.weights}; layer {found.layer}")
    blank = sum(not heat.any() for heat in found.heat)
    if blank:
        hint = "; try --method hires-cam" if found.method == "grad-cam" else ""
        print(f"  {blank} of {len(found.heat)} maps show no evidence for their class{hint}")
    for against, score in (
        ("all objects, class-agnostic", found.agnostic),
        ("objects of the class", found.by_class),
    ):
        if score:
            print(
                f"  {against}: pointing game {score.pointing:.1%}, energy in boxes "
                f"{score.energy:.1%}, box area {score.area:.1%}, {score.maps} maps"
            )
    if found.agnostic and not found.by_class:
        print("  no category of these images is a class of the network by name")


def _facts(found: "Look") -> dict[str, Any]:
    """What is kept of where a network looks."""
    subject = found.subject
    return {
        "network": subject.name,
        "weights": subject.weights,
        "method": found.method,
        "layer": found.layer.name,
        "map": list(found.layer.layout.grid),
        "images": [
            {"file": str(view.file), "class": subject.classes[int(target)], "probability": value}
            for view, target, value in zip(
                found.views, found.targets, found.probabilities.tolist(), strict=True
            )
        ],
        "all_objects": asdict(found.agnostic) if found.agnostic else None,
        "objects_of_the_class": asdict(found.by_class) if found.by_class else None,
    }


def _warehouses(
    found: "Look", folder: Path, prefix: str, facts: dict[str, Any]
) -> "list[Element | None]":
    """The section of a network's warehouses; draws them and adds to the facts."""
    from experiments.explain.figures import draw_attentions
    from experiments.explain.page import warehouse_section
    from experiments.explain.warehouses import look_at_warehouses

    warehouses = look_at_warehouses(found.subject.bare, found.images)
    pictures = [
        _save(draw_attentions(*one[:2]), folder / f"{prefix}warehouse_{number}.png")
        for number, one in enumerate(warehouses, start=1)
    ]
    if warehouses:
        facts["warehouses"] = [one.facts() for one in warehouses]
    return [warehouse_section(found.subject.name, warehouses, pictures)]


def _distances(
    found: "Look", folder: Path, prefix: str, facts: dict[str, Any]
) -> "list[Element | None]":
    """The section of what D learned; draws it and adds to the facts."""
    from experiments.explain.figures import draw_distances
    from experiments.explain.page import distance_section
    from lit_models.do_conv import distances_from_identity

    distances = distances_from_identity(found.subject.bare)
    if not distances:
        return []
    facts["distance_of_d_from_identity"] = distances
    picture = _save(draw_distances(distances), folder / f"{prefix}do_conv.png")
    return [distance_section(found.subject.name, distances, picture)]


def _save(figure: "Figure", file: Path) -> Path:
    from experiments.tables.reports.figures import save_figure

    save_figure(figure, file)
    return file


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="python -m experiments explain",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "networks",
        nargs="+",
        metavar="NETWORK",
        help="a run (folder, id, checkpoint), a row (its newest run, or untrained), a timm name",
    )
    parser.add_argument("--images", type=Path, required=True, help="a folder of images")
    parser.add_argument(
        "--count", type=whole_number(1), default=8, help="images, evenly spaced by name; default 8"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=METHODS[0],
        help="grad-cam (default), or hires-cam, which shows evidence where a classifier flattens "
        "the map",
    )
    parser.add_argument("--layer", help="the layer whose map is shown; default: the last map")
    parser.add_argument(
        "--target", default="predicted", help="number or name of a class; default predicted"
    )
    parser.add_argument(
        "--boxes", type=Path, help="COCO's annotations: measure localisation on images with boxes"
    )
    parser.add_argument("--weights", type=Path, help="the authors' weights, or ours, for a row")
    parser.add_argument("--checkpoint", help="last, best or a file, of a run; default last")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of all runs")
    parser.add_argument("--out", type=Path, help="default explain/ in the run's folder, or in runs")
    return parser
