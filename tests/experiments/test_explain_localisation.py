"""Pointing game and energy, on maps and boxes made by hand and on COCO's annotations."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments.compose import ConfigError
from experiments.explain.localisation import Box, localise, mask_of, read_boxes
from experiments.explain.looking import class_of
from experiments.explain.pictures import View, find_images, view_of


def view(window: tuple[float, float, float, float]) -> View:
    return View(Path("image.png"), torch.zeros(1, 4, 4), window)


def test_a_box_covers_the_pixels_whose_centres_are_in_it() -> None:
    mask = mask_of([Box("cat", (2, 0, 6, 4.1))], view((0, 0, 8, 8)))
    assert mask.nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]


def test_boxes_move_with_the_part_of_the_image_that_is_seen() -> None:
    # Of an image of 16x8 the middle is seen; what lies outside is not there.
    boxes = [Box("cat", (4, 0, 6, 2)), Box("dog", (0, 0, 4, 8))]
    assert mask_of(boxes, view((4, 0, 12, 8))).nonzero().tolist() == [[0, 0]]


def test_pointing_and_energy_of_known_maps() -> None:
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[:2, :2] = True
    inside, outside = torch.zeros(4, 4), torch.zeros(4, 4)
    inside[0, 1], inside[3, 3] = 0.75, 0.25
    outside[0, 0], outside[3, 3] = 0.25, 1.0
    found = localise([inside, outside, torch.zeros(4, 4), torch.ones(4, 4)], [mask] * 4)
    assert found is not None
    assert (found.maps, found.blank) == (4, 1)
    assert found.pointing == 2 / 4  # of the even map the first pixel is the maximum
    assert found.energy == pytest.approx((0.75 + 0.2 + 0 + 0.25) / 4)
    assert found.area == 0.25


def test_views_without_an_object_are_left_out() -> None:
    nothing = torch.zeros(4, 4, dtype=torch.bool)
    assert localise([torch.ones(4, 4)], [nothing]) is None
    found = localise([torch.ones(4, 4)] * 2, [nothing, ~nothing])
    assert found is not None
    assert (found.maps, found.pointing, found.energy, found.area) == (1, 1, 1, 1)


def test_annotations_of_coco_are_read(shared_data: Path) -> None:
    file = shared_data / "coco-mini" / "annotations" / "instances_val2017.json"
    boxes = read_boxes(file)
    things = [one for one in json.loads(file.read_text())["annotations"] if not one["iscrowd"]]
    assert sum(map(len, boxes.values())) == len(things)
    assert "bird" in {box.category for box in boxes["000000055299.jpg"]}


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}'])
def test_other_files_are_refused_by_name(tmp_path: Path, text: str) -> None:
    file = tmp_path / "boxes.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"--boxes: .*boxes\.json is not in the layout"):
        read_boxes(file)
    with pytest.raises(ConfigError, match="cannot read"):
        read_boxes(tmp_path / "missing.json")


def test_categories_meet_classes_by_any_of_their_names() -> None:
    classes = ["tench, Tinca tinca", "sports car, sport car", "Banana"]
    assert class_of("sport car", classes) == 1
    assert class_of("banana", classes) == 2
    assert class_of("car", classes) is None


def test_an_image_is_seen_without_distortion(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8))
    image.paste((255, 0, 0), (4, 0, 12, 8))
    image.save(tmp_path / "wide.png")
    seen = view_of(tmp_path / "wide.png", (3, 4, 4))
    assert seen.window == (4, 0, 12, 8)
    assert seen.pixels.shape == (3, 4, 4)
    assert torch.equal(seen.pixels[0, :, 1:3], torch.ones(4, 2))
    assert seen.pixels[0].min() > 0.9  # bicubic: the neighbours outside count a little
    assert seen.pixels[1:].max() == 0
    assert view_of(tmp_path / "wide.png", (1, 2, 6)).pixels.shape == (1, 2, 6)


def test_images_are_taken_evenly_and_always_the_same(tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / f"class{number // 3}"
        folder.mkdir(exist_ok=True)
        Image.new("L", (2, 2)).save(folder / f"{number}.png")
    (tmp_path / "notes.txt").touch()
    assert [file.stem for file in find_images(tmp_path, 3)] == ["0", "2", "4"]
    assert [file.stem for file in find_images(tmp_path, 99)] == list("012345")
    assert [file.stem for file in find_images(tmp_path, 9, {"4.png", "1.png"})] == ["1", "4"]
    with pytest.raises(ConfigError, match="none of the 6 images"):
        find_images(tmp_path, 9, {"7.png"})
