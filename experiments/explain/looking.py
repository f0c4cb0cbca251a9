"""What is found out about where one network looks."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from experiments.compose import ConfigError
from experiments.explain.cam import IMAGES_AT_ONCE, Method, activation_maps
from experiments.explain.layers import SpatialLayer, find_layer
from experiments.explain.localisation import Box, Localisation, localise, mask_of
from experiments.explain.pictures import View, view_of
from experiments.explain.subjects import Subject
from experiments.tables.spec import nearest

PREDICTED = "predicted"


@dataclass(frozen=True)
class Look:
    """Where a network looks.

    Attributes:
        subject: The network.
        layer: Whose map is shown.
        views: How it sees the images.
        images: The same as the bare network gets them, `(N, C, H, W)`.
        targets: Classes that evidence is shown for, int64 `(N,)`.
        probabilities: What the network gives them, `(N,)`.
        heat: Heat maps `(N, H, W)`, from 0 to 1.
        method: How they were computed.
        agnostic: Against the boxes of all objects; None without boxes.
        by_class: Evidence for a class against the boxes of its own objects, over all pairs of an
            image and a category in it that the network has a class for; None without such.
    """

    subject: Subject
    layer: SpatialLayer
    views: list[View]
    images: Tensor
    targets: Tensor
    probabilities: Tensor
    heat: Tensor
    method: Method
    agnostic: Localisation | None
    by_class: Localisation | None


def look(
    subject: Subject,
    files: list[Path],
    layer: str | None,
    target: str,
    boxes: dict[str, list[Box]],
    method: Method,
) -> Look:
    """Find out where a network looks in images.

    Args:
        subject: The network.
        files: The images.
        layer: Whose map to show; None for the default.
        target: Number or name of a class; or `predicted`, which is each image's own.
        boxes: Objects by the names of the files.
        method: How the heat maps are computed.

    Raises:
        ConfigError: An image cannot be read, or there is no such layer or class.
    """
    views = [view_of(file, subject.size) for file in files]
    images = subject.normalised(torch.stack([view.pixels for view in views]))
    network = subject.bare
    place = find_layer(network, images[:1], layer)
    with torch.no_grad():
        logits = [network(some) for some in torch.split(images, IMAGES_AT_ONCE)]
    probabilities = torch.cat(logits).softmax(dim=1)
    if target == PREDICTED:
        targets = probabilities.argmax(dim=1)
    else:
        targets = torch.full((len(files),), _class_index(target, subject))
    heat = activation_maps(network, place, images, targets, method)
    masks = [mask_of(boxes.get(view.file.name, []), view) for view in views]
    return Look(
        subject,
        place,
        views,
        images,
        targets,
        probabilities.gather(1, targets.unsqueeze(1)).squeeze(1),
        heat,
        method,
        localise(list(heat), masks),
        _by_class(subject, place, views, images, boxes, method),
    )


def class_of(category: str, classes: list[str]) -> int | None:
    """The class that bears a category's name, among several of its names perhaps."""
    wanted = category.casefold()
    for index, names in enumerate(classes):
        if wanted in (name.strip().casefold() for name in names.split(",")):
            return index
    return None


def _by_class(
    subject: Subject,
    layer: SpatialLayer,
    views: list[View],
    images: Tensor,
    boxes: dict[str, list[Box]],
    method: Method,
) -> Localisation | None:
    places, classes, masks = [], [], []
    for place, view in enumerate(views):
        here = boxes.get(view.file.name, [])
        for category in dict.fromkeys(box.category for box in here):
            index = class_of(category, subject.classes)
            if index is not None:
                places.append(place)
                classes.append(index)
                masks.append(mask_of([box for box in here if box.category == category], view))
    if not places:
        return None
    heat = activation_maps(subject.bare, layer, images[places], torch.tensor(classes), method)
    return localise(list(heat), masks)


def _class_index(target: str, subject: Subject) -> int:
    number = len(subject.classes)
    index = int(target) if target.isdecimal() else class_of(target, subject.classes)
    if index is None:
        names = [name.strip() for names in subject.classes for name in names.split(",")]
        raise ConfigError(f"--target: no class is called {target!r}{nearest(target, names)}")
    if index >= number:
        raise ConfigError(
            f"--target: {subject.name} has no class {index}; its {number} are 0 to {number - 1}"
        )
    return index
