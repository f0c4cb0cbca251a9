"""Handwritten digits that come with scikit-learn: nothing to download."""

from typing import Any

import torch
from torch.nn.functional import interpolate

from datamodules.in_memory import InMemoryDataModule
from datamodules.in_memory_loader import LabelledImages


class DigitsDataModule(InMemoryDataModule):
    """The 1,797 digits of `sklearn.datasets.load_digits`: 1,437 to train on and 360 to test.

    The 8x8 images of values from 0 to 16 are scaled to 0-255 and enlarged once to 28x28
    (bilinear), so that networks for MNIST fit. The test images are always the same: the first
    fifth of every class in stored order, which is the first of scikit-learn's five stratified
    folds.

    Args:
        **options: Options of `InMemoryDataModule`.
    """

    name = "digits"
    num_classes = 10
    input_size = (1, 28, 28)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def read(self) -> tuple[LabelledImages, LabelledImages]:
        """Read, enlarge and split the digits."""
        # Imported here: it takes half a second that no other data set needs.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import StratifiedKFold

        digits = load_digits()
        small = torch.from_numpy(digits.images).unsqueeze(1) * (255 / 16)
        large = interpolate(small, size=self.input_size[1:], mode="bilinear", align_corners=False)
        images = large.round().to(torch.uint8)
        targets = torch.from_numpy(digits.target).long()
        train, test = next(StratifiedKFold(5).split(digits.target, digits.target))
        return (
            LabelledImages(images[train], targets[train]),
            LabelledImages(images[test], targets[test]),
        )
