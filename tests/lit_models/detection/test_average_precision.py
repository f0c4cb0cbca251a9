"""Average precision is COCO's own, on one device and on several."""

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped]
from torch import Tensor

from datamodules.coco_annotations import CocoAnnotations
from lit_models.detection import AveragePrecision
from lit_models.detection.results import coco_results

NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
ROWS = range(0, 20, 2)


@pytest.fixture(scope="module")
def known(shared_data: Path) -> CocoAnnotations:
    return CocoAnnotations(shared_data / "coco-mini" / "annotations" / "instances_val2017.json")


@pytest.fixture(scope="module")
def targets(known: CocoAnnotations) -> list[dict[str, Tensor]]:
    return [known.objects(row, train=False, masks=True) for row in ROWS]


@pytest.fixture(scope="module")
def found(targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Detections around the objects: some moved, some of a wrong class, some twice, some missed."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    detections = []
    for target in targets:
        keep = random(len(target["boxes"])) < 0.8
        boxes, masks, labels = (target[key][keep] for key in ("boxes", "masks", "labels"))
        boxes, masks, labels = (torch.cat([x, x[:4]]) for x in (boxes, masks, labels))
        shift = (random(len(boxes), 1) * 6).round() - 2
        moved = torch.stack([mask.roll(int(s), 1) for mask, s in zip(masks, shift, strict=True)])
        wrong = random(len(labels)) < 0.15
        detections.append(
            {
                "boxes": boxes + shift * torch.tensor([1.0, 0.0, 1.0, 0.0]),
                "labels": torch.where(wrong, labels % 80 + 1, labels),
                "scores": random(len(boxes)),
                "masks": moved.bool(),
            }
            if len(boxes)
            else {
                "boxes": torch.zeros(1, 4) + torch.tensor([0.0, 0.0, 9.0, 9.0]),
                "labels": torch.tensor([5]),
                "scores": torch.tensor([0.9]),
                "masks": torch.ones(1, *target["masks"].shape[1:], dtype=torch.bool),
            }
        )
    return detections


@pytest.fixture(scope="module")
def official(known: CocoAnnotations, found: list[dict[str, Tensor]]) -> dict[str, float]:
    """What pycocotools says of the results as they would be handed in."""
    results = [
        result
        for row, each in zip(ROWS, found, strict=True)
        for result in coco_results(each, known.image_ids[row], known.category_ids)
    ]
    values: dict[str, float] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(known.file))
        for theirs, ours, other in (
            ("bbox", "box", "segmentation"),
            # With boxes beside the masks, pycocotools judges sizes by boxes.
            ("segm", "mask", "bbox"),
        ):
            own = [{key: r[key] for key in r if key != other} for r in results]
            evaluation = COCOeval(truth, truth.loadRes(own), theirs)
            evaluation.params.imgIds = [known.image_ids[row] for row in ROWS]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            values |= {f"{ours}_{n}": v for n, v in zip(NAMES, evaluation.stats, strict=False)}
    return values


def counted(found: Any, targets: Any, places: list[int]) -> AveragePrecision:
    precision = AveragePrecision(masks=True)
    for place in places:
        precision.update([found[place]], [targets[place]], torch.tensor([ROWS[place]]))
    return precision


def test_it_equals_the_official_evaluation(
    found: Any, targets: Any, official: dict[str, float]
) -> None:
    values, images = counted(found, targets, list(range(len(ROWS)))).compute()
    assert images == len(ROWS)
    assert values.keys() == official.keys()
    assert {name: float(value) for name, value in values.items()} == pytest.approx(
        official, abs=5e-4
    )
    # The case is worth something: every size is there, and nothing is all right or all wrong.
    assert all(0.05 < official[name] < 0.95 for name in official)


def test_boxes_alone_have_the_same_value(found: Any, targets: Any, official: Any) -> None:
    precision = AveragePrecision(masks=False)
    precision.update(found, targets, torch.tensor(list(ROWS)))
    values, _ = precision.compute()
    wanted = {name: value for name, value in official.items() if name.startswith("box")}
    assert {name: float(value) for name, value in values.items()} == pytest.approx(wanted, abs=5e-4)


def test_two_devices_with_different_and_shared_images_give_the_value_of_one(
    found: Any, targets: Any, official: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = [
        counted(found, targets, [0, 1, 2, 3, 4, 5, 6]),
        counted(found, targets, [6, 7, 8, 9]),
    ]
    shares = [precision._gathered() for precision in everyone]

    def gather(into: list[Any], mine: Any) -> None:
        into[:] = shares

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    for precision in everyone:
        values, images = precision.compute()
        assert images == len(ROWS)
        assert float(values["mask_ap"]) == pytest.approx(official["mask_ap"], abs=5e-4)
        assert float(values["box_ap_small"]) == pytest.approx(official["box_ap_small"], abs=5e-4)


def test_it_begins_anew_after_a_reset(found: Any, targets: Any) -> None:
    precision = counted(found, targets, [0, 1])
    precision.reset()
    precision.update([found[2]], [targets[2]], torch.tensor([4]))
    assert precision.compute()[1] == 1
