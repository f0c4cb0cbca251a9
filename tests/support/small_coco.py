"""A few drawn images with annotations in COCO's layout, as small as they can be."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}, {"id": 90, "name": "brush"}]
HEIGHT, WIDTH = 40, 60


def square(number: int, image: int, category: int, x: int, y: int, side: int) -> dict[str, Any]:
    """An object whose mask is a polygon."""
    corners = [x, y, x + side, y, x + side, y + side, x, y + side]
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, side, side],
        "area": side * side,
        "iscrowd": 0,
        "segmentation": [corners],
    }


def crowd(number: int, image: int, category: int) -> dict[str, Any]:
    """A crowd, whose mask is run lengths: the two leftmost columns of the image."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [0, 0, 2, HEIGHT],
        "area": 2 * HEIGHT,
        "iscrowd": 1,
        "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 2 * HEIGHT, HEIGHT * (WIDTH - 2)]},
    }


def annotations() -> dict[str, list[dict[str, Any]]]:
    """Four images: two objects and a crowd, one object, none, and a greyscale one with one."""
    images = [
        {"id": number, "file_name": f"{number:012}.jpg", "height": HEIGHT, "width": WIDTH}
        for number in (7, 9, 12, 20)
    ]
    things = [
        square(1, 7, 1, 10, 5, 20),
        square(2, 7, 90, 30, 10, 15),
        crowd(3, 7, 1),
        square(4, 9, 3, 20, 8, 24),
        square(5, 20, 1, 4, 4, 30),
    ]
    return {"images": images, "annotations": things, "categories": CATEGORIES}


def write_coco(root: Path, content: dict[str, list[dict[str, Any]]] | None = None) -> Path:
    """Write both splits, which are the same; returns their folder."""
    content = content or annotations()
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (root / split).mkdir()
        for image in content["images"]:
            mode = "L" if image["id"] == 20 else "RGB"
            picture = Image.new(mode, (image["width"], image["height"]), "grey")
            picture.save(root / split / image["file_name"])
    return root
