"""COCO's average precision of boxes and masks, exact over any number of devices."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

# What is logged of torchmetrics' many values.
_REPORTED = {
    "map": "ap",
    "map_50": "ap50",
    "map_75": "ap75",
    "map_small": "ap_small",
    "map_medium": "ap_medium",
    "map_large": "ap_large",
}
# COCO's thresholds, in double precision. torchmetrics' own have single precision, and a recall of
# 0.2 is below their 0.2: on ten images that moved values by up to 0.0006.
_OVERLAPS = np.linspace(0.5, 0.95, 10).tolist()
_RECALLS = np.linspace(0, 1, 101).tolist()
_KINDS = {"bbox": "box", "segm": "mask"}

Objects = dict[str, Tensor]


class AveragePrecision:
    """Average precision as COCO's own evaluation computes it (pycocotools), on any devices.

    torchmetrics' own synchronisation wants as many images on every device. Here the images'
    results are gathered by their numbers, an image that several devices have seen counts once, and
    every device computes the value of all.

    Args:
        masks: Whether there are masks, too.
    """

    def __init__(self, masks: bool) -> None:
        self.kinds: tuple[Literal["bbox", "segm"], ...] = ("bbox", "segm") if masks else ("bbox",)
        self._images: list[int] = []
        self._metric: Any = None

    def update(self, found: list[Objects], targets: list[Objects], indices: Tensor) -> None:
        """Take in a batch, in the coordinates of the whole images.

        Args:
            found: For each image `boxes (D, 4)` (x1, y1, x2, y2), `labels (D,)`, `scores (D,)` and
                `masks (D, H, W)`, which are booleans.
            targets: For each image `boxes (N, 4)`, `labels (N,)`, `masks (N, H, W)`, `area (N,)` as
                COCO states it and `iscrowd (N,)`. Without these two, sizes are judged by boxes.
            indices: Numbers of the images in the data set, `(B,)`.

        Raises:
            ModuleNotFoundError: faster-coco-eval is not installed.
        """
        if self._metric is None:
            self._metric = self._new()
        if "segm" not in self.kinds:
            found, targets = [_boxes(each) for each in found], [_boxes(each) for each in targets]
        self._metric.update(
            [{key: value.cpu() for key, value in each.items()} for each in found],
            [{key: value.cpu() for key, value in each.items()} for each in targets],
        )
        self._images += indices.tolist()

    def compute(self) -> tuple[dict[str, Tensor], int]:
        """The values by name (`box_ap`, `mask_ap50` ...), and how many images they are of.

        As COCO says it, a value is -1 where there is nothing to find. All devices call it.
        """
        together = self._gathered()
        metric = self._new()
        for name in metric._defaults:
            setattr(metric, name, [states[name] for states in together.values() if name in states])
        metric._update_count = 1
        values = metric.compute()
        named = {}
        for kind in self.kinds:
            prefix = f"{kind}_" if len(self.kinds) > 1 else ""
            for theirs, ours in _REPORTED.items():
                named[f"{_KINDS[kind]}_{ours}"] = values[f"{prefix}{theirs}"].float()
        return named, len(together)

    def reset(self) -> None:
        """Forget the images."""
        self._images = []
        self._metric = None

    def _new(self) -> Any:
        # Imported here: only evaluation needs it.
        from torchmetrics.detection import MeanAveragePrecision

        try:
            metric = MeanAveragePrecision(
                iou_type=self.kinds,
                iou_thresholds=_OVERLAPS,
                rec_thresholds=_RECALLS,
                backend="faster_coco_eval",
                sync_on_compute=False,
            )
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "average precision needs faster-coco-eval; pip install -e '.[detection]'"
            ) from error
        metric.warn_on_many_detections = False
        return metric

    def _gathered(self) -> dict[int, dict[str, Any]]:
        """The states of each image, by its number, in the order of the numbers."""
        names = self._metric._defaults if self._metric is not None else ()
        states = {name: getattr(self._metric, name) for name in names}
        mine = {
            image: {name: state[place] for name, state in states.items() if state}
            for place, image in enumerate(self._images)
        }
        shares = [mine]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            shares = [{} for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(shares, mine)
        together = {image: states for share in shares for image, states in share.items()}
        return dict(sorted(together.items()))


def _boxes(objects: Objects) -> Objects:
    return {key: value for key, value in objects.items() if key != "masks"}
