"""COCO: targets of polygons, run lengths and crowds; augmentation; order; one-line errors."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO  # type: ignore[import-untyped]
from small_coco import HEIGHT, WIDTH, annotations, write_coco
from torch import Tensor

from datamodules import COCODataModule
from datamodules.coco_annotations import CocoAnnotations
from datamodules.coco_transforms import DetectionTransform, flip, resize
from datamodules.coco_verification import verify_coco
from datamodules.sampling import GroupedShuffle
from experiments.commands.data import main as data_command


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def module(root: Path, **options: Any) -> COCODataModule:
    data = COCODataModule(str(root), num_workers=0, seed=3, **options)
    data.setup("fit")
    return data


def test_labels_are_the_places_of_the_categories(root: Path) -> None:
    data = module(root)
    assert (data.num_classes, data.category_ids) == (3, [1, 3, 90])
    assert data.classes == ["person", "car", "brush"]
    objects = data.train_images.annotations.objects(0, train=True, masks=False)
    assert objects["labels"].tolist() == [1, 3]
    assert objects["boxes"].tolist() == [[10, 5, 30, 25], [30, 10, 45, 25]]


def test_categories_are_read_where_a_network_is_built_without_memory(root: Path) -> None:
    with torch.device("meta"):
        data = COCODataModule(str(root), num_workers=0, test_on_train=True)
        assert data.num_classes == 3
    assert data.train_images.annotations.objects(0, train=True, masks=False)["labels"][0] == 1
    assert not data.train_images.annotations.sizes.is_meta


def test_masks_of_polygons_and_run_lengths_are_those_of_pycocotools(shared_data: Path) -> None:
    file = shared_data / "coco-mini" / "annotations" / "instances_val2017.json"
    ours, theirs = CocoAnnotations(file), COCO(str(file))
    crowds = 0
    for row in range(0, len(ours), 3):
        objects = ours.objects(row, train=False, masks=True)
        records = theirs.loadAnns(theirs.getAnnIds(ours.image_ids[row]))
        by_id = {record["id"]: theirs.annToMask(record) for record in records}
        wanted = [torch.from_numpy(by_id[record["id"]]) for record in ours.records(row)]
        assert len(wanted) == len(objects["masks"])
        assert all(torch.equal(a, b) for a, b in zip(wanted, objects["masks"], strict=True))
        crowds += int(objects["iscrowd"].sum())
    assert crowds


def test_crowds_are_evaluated_and_not_trained_on(root: Path) -> None:
    known = module(root).train_images.annotations
    assert known.counts.tolist() == [2, 1, 0, 1]
    assert len(known.objects(0, train=True, masks=True)["masks"]) == 2
    all_ = known.objects(0, train=False, masks=True)
    assert all_["iscrowd"].tolist() == [0, 0, 1]
    assert set(all_["masks"][2].nonzero()[:, 1].tolist()) == {0, 1}
    assert all_["area"].tolist() == [400, 225, 80]


@pytest.mark.parametrize(("empty_images", "count"), [(False, 3), (True, 4)])
def test_images_without_objects_are_trained_on_if_asked_for(
    root: Path, empty_images: bool, count: int
) -> None:
    data = module(root, empty_images=empty_images, sizes=[20])
    assert data.num_train == count
    images = [image for batch in data.train_dataloader() for image in batch[0]]
    assert [tuple(image.shape) for image in images] == [(3, 20, 30)] * count


def test_every_image_is_evaluated_on_one_device_in_its_own_size(root: Path) -> None:
    batches: list[Any] = list(module(root).test_dataloader())
    assert [int(batch[1][0]["image_id"]) for batch in batches] == [7, 9, 12, 20]
    assert all(batch[0][0].shape == (3, HEIGHT, WIDTH) for batch in batches)
    assert batches[2][1][0]["masks"].shape == (0, HEIGHT, WIDTH)


def test_the_order_and_the_augmentation_belong_to_seed_and_epoch(root: Path) -> None:
    def drawn() -> list[tuple[list[int], float]]:
        data = module(root, sizes=[20, 30], crop=0.5)
        return [(b[2].tolist(), sum(float(i.sum()) for i in b[0])) for b in data.train_dataloader()]

    first = drawn()
    random.random()
    torch.rand(3)
    assert drawn() == first


def test_images_that_validate_are_not_trained_on(root: Path) -> None:
    data = module(root, holdout=1)
    trained = {row for batch in data.train_dataloader() for row in batch[2].tolist()}
    loader: Any = data.val_dataloader()
    (held_out,) = [batch[2].item() for batch in loader]
    assert len(trained) == 2
    assert held_out not in trained


def picture() -> tuple[Tensor, dict[str, Tensor]]:
    masks = torch.zeros(1, 30, 40, dtype=torch.uint8)
    masks[0, 5:15, 10:30] = 1
    boxes = torch.tensor([[10.0, 5.0, 30.0, 15.0]])
    objects = {"boxes": boxes, "labels": torch.tensor([1]), "masks": masks}
    return masks[0].float().expand(3, 30, 40).clone(), objects


def bounds(mask: Tensor) -> list[int]:
    rows, columns = mask.nonzero(as_tuple=True)
    return [
        int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [flip, partial(resize, shorter=60, longer=100), partial(resize, shorter=60, longer=40)],
    ids=["flip", "larger", "limited"],
)
def test_boxes_masks_and_pixels_stay_together(
    change: Callable[..., tuple[Tensor, dict[str, Tensor]]],
) -> None:
    pixels, objects = change(*picture())
    assert objects["masks"].shape[1:] == pixels.shape[1:]
    assert objects["boxes"][0].tolist() == bounds(objects["masks"][0])
    assert ((pixels[0] > 0.5) == objects["masks"][0].bool()).all()


def test_a_crop_keeps_the_objects_that_are_in_it() -> None:
    image = Image.new("RGB", (64, 48))
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [20.0, 16.0, 44.0, 32.0]])
    masks = torch.zeros(2, 48, 64, dtype=torch.uint8)
    masks[0, :8, :8] = 1
    masks[1, 16:32, 20:44] = 1
    objects = {"boxes": boxes, "labels": torch.tensor([1, 2]), "masks": masks}
    crop = DetectionTransform(sizes=(24,), flip=0, crop=1.0, crop_sizes=(48,), crop_range=(24, 24))
    kept = set()
    for seed in range(12):
        random.seed(seed)
        pixels, cut = crop(image, objects)
        assert pixels.shape == (3, 24, 24)
        assert len(cut["boxes"]) == len(cut["labels"]) == len(cut["masks"])
        for box, mask in zip(cut["boxes"], cut["masks"], strict=True):
            assert box.tolist() == bounds(mask)
        kept.add(tuple(cut["labels"].tolist()))
    assert len(kept) > 1


def test_grouped_batches_have_one_orientation_and_every_image_once() -> None:
    groups = torch.tensor([0, 1] * 11)
    shuffle = GroupedShuffle(seed=1, groups=groups, lot=4)
    order = shuffle.order(22, epoch=0)
    assert sorted(order.tolist()) == list(range(22))
    assert all(len(set(groups[order[k : k + 4]].tolist())) == 1 for k in (0, 4, 8, 12))
    assert not torch.equal(order, shuffle.order(22, epoch=1))


def broken(part: str, **change: Any) -> dict[str, list[dict[str, Any]]]:
    content = annotations()
    content[part][0] |= change
    return content


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (broken("annotations", category_id=4), "annotation 1 is of category 4, which the file"),
        (broken("annotations", image_id=4), "annotation 1 is in image 4, which the file does not"),
        (
            broken("annotations", segmentation={"size": [3, 4], "counts": [12]}),
            r"annotation 1 has a mask of \[3, 4\] \(height, width\), its image is \[40, 60\]",
        ),
        ({"images": []}, "has no list of annotations"),
    ],
    ids=["category", "image", "size", "file"],
)
def test_annotations_that_cannot_be_are_named(
    tmp_path: Path, content: dict[str, Any], complaint: str
) -> None:
    root = write_coco(tmp_path / "coco", {**annotations(), **content})
    if "annotations" not in content:
        (root / "annotations" / "instances_val2017.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match=complaint):
        module(root)


def test_a_file_that_is_cut_short_is_named(root: Path) -> None:
    file = root / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text()[:-20])
    with pytest.raises(ValueError, match=r"instances_train2017\.json is cut short or no JSON"):
        module(root)


def test_no_data_and_no_images_are_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no COCO annotations at .*root"):
        module(root / "nowhere")
    (root / "train2017" / f"{7:012}.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"no image at .*000007.jpg"):
        module(root)


def test_an_image_of_another_size_ends_the_run(root: Path) -> None:
    Image.new("RGB", (50, 40)).save(root / "val2017" / f"{9:012}.jpg")
    with pytest.raises(ValueError, match=r"it is 50 x 40 pixels, the annotations say 60 x 40"):
        list(module(root).test_dataloader())


def test_verify_counts_and_names_what_is_wrong(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert data_command(["data", "verify", "coco", "--root", str(root), "--workers", "0"]) == 0
    assert "4 images, 1 without objects; 4 objects of 3 classes of 3, 1 crowds" in (
        " ".join(capsys.readouterr().out.split())
    )
    Image.new("RGB", (50, 40)).save(root / "val2017" / f"{9:012}.jpg")
    (root / "val2017" / f"{7:012}.jpg").write_bytes(b"no image")
    problems = verify_coco(str(root)).problems
    assert len(problems) == 2
    assert any("000007.jpg is broken" in problem for problem in problems)
    assert any("000009.jpg is 50 x 40, the annotations say" in problem for problem in problems)
