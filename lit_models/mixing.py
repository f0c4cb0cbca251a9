"""Mixup and CutMix of whole batches, as the papers' training scripts use them."""

from dataclasses import dataclass, fields
from typing import Literal

from timm.data import Mixup


@dataclass(frozen=True)
class MixSettings:
    """What timm's `Mixup` is asked for; with both alphas 0 nothing is mixed.

    Args:
        mixup_alpha: Parameter of mixup's beta distribution; 0 is off.
        cutmix_alpha: Parameter of CutMix's beta distribution; 0 is off.
        cutmix_minmax: Smallest and largest side of the cut as a part of the image; null: by alpha.
        prob: Share of the batches (or pairs, or images) that are mixed, 0 to 1.
        switch_prob: Share of CutMix where both are on, 0 to 1.
        mode: Mix a whole `batch`, each `pair` or each image (`elem`) with numbers of its own.
    """

    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    cutmix_minmax: list[float] | None = None
    prob: float = 1.0
    switch_prob: float = 0.5
    mode: Literal["batch", "pair", "elem"] = "batch"

    def build(self, label_smoothing: float, num_classes: int) -> Mixup | None:
        """Return timm's mixer, which smooths the targets, too; None if nothing is mixed.

        Batches must have an even number of images.

        Args:
            label_smoothing: Share of the target that is spread over all classes.
            num_classes: Number of classes.
        """
        if not (self.mixup_alpha or self.cutmix_alpha or self.cutmix_minmax):
            return None
        options = {field.name: getattr(self, field.name) for field in fields(self)}
        return Mixup(**options, label_smoothing=label_smoothing, num_classes=num_classes)
