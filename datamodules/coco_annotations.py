"""COCO's annotation files: read, checked, and kept small; masks from polygons and run lengths."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Record = dict[str, Any]
Objects = dict[str, Tensor]

_IMAGE_KEYS = ("id", "file_name", "height", "width")
_OBJECT_KEYS = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")


class CocoAnnotations:
    """The images of one split with their objects.

    What is known of an image is kept as text in one array: worker processes share that without
    copying, which they would do with a million dictionaries.

    Args:
        file: `instances_<split>.json`.

    Attributes:
        file: The same.
        category_ids: COCO's numbers of the categories, ascending: the n-th has the label n + 1.
        classes: Their names.
        image_ids: COCO's numbers of the images, in the order of these numbers.
        names: Names of the image files.
        sizes: Heights and widths of the images, int64 (N, 2).
        counts: Number of objects of each image, crowds not counted, int64 (N,).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such file, or says what cannot be; names the place.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        content = _read(file)
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self.category_ids = [int(category["id"]) for category in categories]
        self.classes = [str(category["name"]) for category in categories]
        self._labels = {number: place for place, number in enumerate(self.category_ids, start=1)}
        images = sorted(content["images"], key=lambda image: image["id"])
        self.image_ids = [int(image["id"]) for image in images]
        if not images or len(set(self.image_ids)) < len(images):
            raise ValueError(f"{file}: it has no images, or two with one id")
        self.names = [str(image["file_name"]) for image in images]
        self.sizes = torch.tensor([(image["height"], image["width"]) for image in images])
        by_image: dict[int, list[Record]] = defaultdict(list)
        rows = {number: row for row, number in enumerate(self.image_ids)}
        for thing in content["annotations"]:
            self._check(thing, rows)
            by_image[thing["image_id"]].append({key: thing[key] for key in _OBJECT_KEYS})
        texts = [json.dumps(by_image[number]).encode() for number in self.image_ids]
        self._texts = np.frombuffer(b"".join(texts), np.uint8)
        self._ends = np.cumsum([0, *map(len, texts)])
        self.counts = torch.tensor(
            [sum(not thing["iscrowd"] for thing in by_image[n]) for n in self.image_ids]
        )

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def records(self, row: int) -> list[Record]:
        """What the file says of the objects in an image."""
        start, end = self._ends[row : row + 2]
        records: list[Record] = json.loads(self._texts[start:end].tobytes())
        return records

    def objects(self, row: int, *, train: bool, masks: bool) -> Objects:
        """The objects in an image.

        Args:
            row: Row of the image.
            train: Leave out crowds and boxes of less than a pixel, and cut boxes at the image's
                border, as the papers' toolbox does; otherwise all are there, with `area`,
                `iscrowd` and `image_id`.
            masks: Whether to make the masks.

        Returns:
            `boxes (N, 4)` (x1, y1, x2, y2), `labels (N,)` from 1, and `masks (N, H, W)`, uint8.

        Raises:
            ModuleNotFoundError: Masks need faster-coco-eval, which is not installed.
        """
        height, width = self.sizes[row].tolist()
        records = self.records(row)
        if train:
            records = [r for r in records if _is_trained_on(r, height, width)]
        boxes = torch.tensor([record["bbox"] for record in records]).reshape(-1, 4).float()
        boxes[:, 2:] += boxes[:, :2]
        if train:
            boxes[:, 0::2].clamp_(0, width)
            boxes[:, 1::2].clamp_(0, height)
        labels = [self._labels[record["category_id"]] for record in records]
        objects = {"boxes": boxes, "labels": torch.tensor(labels, dtype=torch.int64)}
        if masks:
            made = [decode_mask(record["segmentation"], height, width) for record in records]
            empty = torch.zeros(0, height, width, dtype=torch.uint8)
            objects["masks"] = torch.from_numpy(np.stack(made)) if made else empty
        if not train:
            objects["area"] = torch.tensor([float(record["area"]) for record in records])
            crowds = [int(record["iscrowd"]) for record in records]
            objects["iscrowd"] = torch.tensor(crowds, dtype=torch.int64)
            objects["image_id"] = torch.tensor(self.image_ids[row])
        return objects

    def faults(self) -> Iterator[str]:
        """What is wrong with masks, a line each; takes minutes for the whole of COCO."""
        for row in range(len(self)):
            height, width = self.sizes[row].tolist()
            for record in self.records(row):
                try:
                    decode_mask(record["segmentation"], height, width)
                except (ValueError, TypeError, KeyError, IndexError) as error:
                    where = f"{self.file}: annotation {record['id']}"
                    yield f"{where} has a mask that cannot be read ({error})"

    def _check(self, thing: Record, rows: dict[int, int]) -> None:
        missing = [key for key in _OBJECT_KEYS if key not in thing]
        where = f"{self.file}: annotation {thing.get('id', '?')}"
        if missing:
            raise ValueError(f"{where} has no {missing[0]}")
        if thing["category_id"] not in self._labels:
            raise ValueError(
                f"{where} is of category {thing['category_id']}, which the file does not list"
            )
        if thing["image_id"] not in rows:
            raise ValueError(
                f"{where} is in image {thing['image_id']}, which the file does not list"
            )
        mask = thing["segmentation"]
        size = self.sizes[rows[thing["image_id"]]].tolist()
        if isinstance(mask, dict) and list(mask.get("size", ())) != size:
            raise ValueError(
                f"{where} has a mask of {mask.get('size')} (height, width), its image is {size}"
            )


def decode_mask(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The mask `(height, width)`, uint8, of polygons or run lengths, as pycocotools makes it.

    Raises:
        ModuleNotFoundError: faster-coco-eval is not installed.
    """
    try:
        from faster_coco_eval.core import mask as mask_utils  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "COCO's masks need faster-coco-eval; pip install -e '.[detection]'"
        ) from error
    if isinstance(segmentation, dict) and isinstance(segmentation["counts"], str):
        code = {**segmentation, "counts": segmentation["counts"].encode()}
    else:
        code = mask_utils.frPyObjects(segmentation, height, width)
        code = mask_utils.merge(code) if isinstance(code, list) else code
    mask: np.ndarray = mask_utils.decode(code)
    return mask


def _is_trained_on(record: Record, height: int, width: int) -> bool:
    """Whether an object is no crowd and its box has a pixel in the image."""
    x, y, w, h = record["bbox"]
    inside = min(x + w, width) > max(x, 0) and min(y + h, height) > max(y, 0)
    return not record["iscrowd"] and w >= 1 and h >= 1 and inside


def _read(file: Path) -> dict[str, list[Record]]:
    if not file.is_file():
        raise FileNotFoundError(
            f"no COCO annotations at {file}; give the folder that has annotations/, train2017/ and "
            "val2017/ (--data.init_args.root, or CONVSUITE_DATA with a folder coco in it)"
        )
    try:
        content = json.loads(file.read_bytes())
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} is cut short or no JSON: {reason}") from error
    for part, keys in (
        ("images", _IMAGE_KEYS),
        ("annotations", ()),
        ("categories", ("id", "name")),
    ):
        entries = content.get(part) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{file} has no list of {part}; it is no file of COCO's instances")
        for key in keys:
            if any(key not in entry for entry in entries):
                raise ValueError(f"{file}: one of the {part} has no {key}")
    return content  # type: ignore[no-any-return]
