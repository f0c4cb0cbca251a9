"""Pictures of detections: written beside the truth, logged, and only of detectors."""

from pathlib import Path

import torch
from media_shelf import MediaShelf, quiet_trainer
from PIL import Image
from small_coco import HEIGHT, WIDTH, write_coco

from callbacks.detection_pictures import DetectionPictures, draw
from datamodules import COCODataModule
from lit_models import Detector
from lit_models.detection import RCNNSettings

TINY = RCNNSettings(
    min_size=32,
    max_size=64,
    pyramid_channels=8,
    test_proposals=10,
    score_threshold=0.0,
    detections=3,
)


def test_pictures_of_the_first_images_are_written_and_logged(tmp_path: Path) -> None:
    data = COCODataModule(str(write_coco(tmp_path / "coco")), num_workers=0)
    detector = Detector("mobilenetv3_small_050", num_classes=3, rcnn=TINY)
    callback = DetectionPictures(tmp_path, count=3, threshold=0.0)
    trainer = quiet_trainer(tmp_path, callback)
    trainer.test(detector, datamodule=data, verbose=False)
    files = sorted((tmp_path / "detections").glob("*.png"))
    assert [file.stem for file in files] == ["12", "7", "9"]
    assert all(Image.open(file).size == (2 * WIDTH + 8, HEIGHT) for file in files)
    shelf = trainer.logger
    assert isinstance(shelf, MediaShelf)
    assert len(shelf.media["detections"][1]) == 3


def test_an_object_is_drawn_where_it_is() -> None:
    image = torch.zeros(3, 40, 60)
    masks = torch.zeros(1, 40, 60, dtype=torch.bool)
    masks[0, 10:20, 30:50] = True
    there = {
        "boxes": torch.tensor([[30.0, 10.0, 50.0, 20.0]]),
        "labels": torch.tensor([2]),
        "masks": masks,
    }
    picture = draw(image, there, ["person", "car"])
    assert picture.getpixel((5, 35)) == (0, 0, 0)
    assert picture.getpixel((40, 16)) != (0, 0, 0)


def test_an_image_without_objects_is_left_as_it_is() -> None:
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    assert draw(torch.ones(3, 4, 6), nothing, []).getpixel((0, 0)) == (255, 255, 255)
