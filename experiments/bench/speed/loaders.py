"""Loaders: the suite's, for data sets in memory, against torchvision's sets in a DataLoader."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import transforms  # type: ignore[import-untyped]
from torchvision.datasets import CIFAR10, MNIST  # type: ignore[import-untyped]

from datamodules.augmentation import Augmentation
from datamodules.in_memory_loader import InMemoryLoader, LabelledImages
from datamodules.sampling import Shuffle
from experiments.bench.speed.item import Item, Measured, Rounds, Target, compared
from experiments.bench.timing import Run, interleaved, ratios, wall_clock

GROUP = "Loaders"
BATCH = 128
PADDING = 4
REFERENCE_BATCHES = 20
MEAN_AND_STD = {1: ([0.1307], [0.3081]), 3: ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])}
SETS = {"MNIST": ((60_000, 1, 28, 28), 100.0), "CIFAR-10": ((50_000, 3, 32, 32), 35.0)}


def made_up(shape: Sequence[int]) -> LabelledImages:
    """A data set of noise: how long loading takes doesn't depend on the pixels."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, tuple(shape), dtype=torch.uint8, generator=generator)
    return LabelledImages(pixels, torch.arange(shape[0]) % 10)


def our_loader(data: LabelledImages) -> InMemoryLoader:
    """The suite's loader, as its data modules make it for training."""
    mean, std = MEAN_AND_STD[data.images.shape[1]]
    return InMemoryLoader(
        data,
        range(len(data.targets)),
        BATCH,
        shuffle=Shuffle(0, None),
        mean=mean,
        std=std,
        augmentation=Augmentation(0, crop_padding=PADDING, flip=True),
    )


def torchvision_loader(data: LabelledImages) -> DataLoader[Any]:
    """A DataLoader over torchvision's class of the data set, with the same augmentation.

    It runs in this process, and serves the first batches of the set only: each costs as much as
    another.
    """
    mean, std = MEAN_AND_STD[data.images.shape[1]]
    steps = [
        transforms.RandomCrop(data.images.shape[-1], padding=PADDING),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(mean, std),
    ]
    dataset = torchvision_dataset(data, transforms.Compose(steps))
    few = Subset(dataset, range(min(len(data.targets), REFERENCE_BATCHES * BATCH)))
    return DataLoader(few, BATCH, shuffle=True)


def torchvision_dataset(data: LabelledImages, transform: Callable[[Any], Tensor]) -> Dataset[Any]:
    """Torchvision's MNIST (one channel) or CIFAR10 with these images."""
    images: Any = data.images
    kind: Any = MNIST if images.shape[1] == 1 else CIFAR10
    # Its constructor would read files; what it reads from them is given instead.
    dataset = kind.__new__(kind)
    dataset.transform, dataset.target_transform = transform, None
    dataset.data = images[:, 0] if kind is MNIST else images.permute(0, 2, 3, 1).numpy()
    dataset.targets = data.targets if kind is MNIST else data.targets.tolist()
    typed: Dataset[Any] = dataset
    return typed


def items() -> list[Item]:
    """The items of both data sets."""
    return [
        Item(
            f"loader_{name.lower().replace('-', '')}",
            GROUP,
            f"an epoch of {name} with random crop, flip and normalisation, batch {BATCH}",
            "torchvision's data set and transforms in a DataLoader, in one process",
            "times as fast",
            {"default": Target(bound)},
            partial(_measure, shape),
        )
        for name, (shape, bound) in SETS.items()
    ]


def _measure(shape: Sequence[int], rounds: Rounds) -> Measured:
    data = made_up(shape)
    theirs, ours = torchvision_loader(data), our_loader(data)
    runs: dict[str, Run] = {"theirs": partial(_exhaust, theirs), "ours": partial(_exhaust, ours)}
    timings = interleaved(runs, rounds, wall_clock)
    # A whole epoch of either.
    share = len(theirs) / len(ours)
    values = [ratio / share for ratio in ratios(timings["theirs"], timings["ours"])]
    measured = compared(timings["theirs"], timings["ours"], values)
    return measured._replace(reference=measured.reference / share)


def _exhaust(loader: Iterable[Any]) -> None:
    for _ in loader:
        pass
