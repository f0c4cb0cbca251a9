"""How well heat maps lie on objects: pointing game and energy inside the boxes.

Sources: "Top-down Neural Attention by Excitation Backprop" (ECCV 2016) for the pointing game, here
without its tolerance of 15 pixels; "Score-CAM" (CVPR Workshops 2020) for the energy.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments.compose import ConfigError
from experiments.explain.pictures import View


@dataclass(frozen=True)
class Box:
    """An object's box.

    Attributes:
        category: What the object is.
        edges: Left, top, right and bottom in the image's pixels.
    """

    category: str
    edges: tuple[float, float, float, float]


@dataclass(frozen=True)
class Localisation:
    """Means over heat maps.

    Attributes:
        maps: Number of heat maps.
        pointing: Part of them whose maximum lies in a box.
        energy: Part of the heat that lies in boxes; a blank map has none there.
        area: Part of the image that the boxes cover: what a map without preference would reach.
        blank: Number of maps without any evidence for their class; they are counted as misses.
    """

    maps: int
    pointing: float
    energy: float
    area: float
    blank: int


def read_boxes(file: Path) -> dict[str, list[Box]]:
    """Boxes of single objects by the names of the image files; of COCO's instance annotations.

    Raises:
        ConfigError: The file is missing, or is none of that layout.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
        names = {image["id"]: image["file_name"] for image in content["images"]}
        categories = {each["id"]: each["name"] for each in content["categories"]}
        found: dict[str, list[Box]] = {}
        for one in content["annotations"]:
            if not one.get("iscrowd"):
                left, top, width, height = one["bbox"]
                box = Box(categories[one["category_id"]], (left, top, left + width, top + height))
                found.setdefault(Path(names[one["image_id"]]).name, []).append(box)
    except OSError as error:
        raise ConfigError(f"--boxes: cannot read {file} ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--boxes: {file} is not in the layout of COCO's instance annotations "
            f"({type(error).__name__}: {error})"
        ) from None
    return found


def mask_of(boxes: Sequence[Box], view: View) -> Tensor:
    """Which pixels of a view have their centre in a box, bool `(H, W)`."""
    height, width = view.pixels.shape[1:]
    left, top, right, bottom = view.window
    x = left + (torch.arange(width, dtype=torch.float64) + 0.5) * ((right - left) / width)
    y = top + (torch.arange(height, dtype=torch.float64) + 0.5) * ((bottom - top) / height)
    mask = torch.zeros(height, width, dtype=torch.bool)
    for box in boxes:
        x0, y0, x1, y1 = box.edges
        mask |= ((y >= y0) & (y < y1)).unsqueeze(1) & ((x >= x0) & (x < x1))
    return mask


def localise(heat: Sequence[Tensor], masks: Sequence[Tensor]) -> Localisation | None:
    """Hold heat maps `(H, W)` against masks of the boxes `(H, W)`; None without any.

    A view that none of its image's boxes reaches into has nothing to point at and is left out.
    """
    pairs = [(warm, mask) for warm, mask in zip(heat, masks, strict=True) if mask.any()]
    if not pairs:
        return None
    hits, energies, areas, blank = 0, 0.0, 0.0, 0
    for warm, mask in pairs:
        total = warm.double().sum()
        if total > 0:
            hits += bool(mask.flatten()[warm.argmax()])
            energies += (warm.double()[mask].sum() / total).item()
        else:
            blank += 1
        areas += mask.double().mean().item()
    number = len(pairs)
    return Localisation(number, hits / number, energies / number, areas / number, blank)
