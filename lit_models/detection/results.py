"""Detections in COCO's result format, which its evaluation server takes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor


def coco_results(
    found: dict[str, Tensor], image_id: int, categories: Sequence[int]
) -> list[dict[str, Any]]:
    """Return the detections in one image, ready to be written as JSON.

    With `bbox` beside `segmentation`, pycocotools judges the sizes of masks by boxes: to have
    masks scored as they usually are, take `bbox` out.

    Args:
        found: `boxes (D, 4)` (x1, y1, x2, y2), `labels (D,)` from 1, `scores (D,)` and maybe
            `masks (D, H, W)`, booleans.
        image_id: COCO's number of the image.
        categories: COCO's number of the category of each label, in their order.
    """
    boxes = found["boxes"].cpu()
    boxes = boxes - boxes[:, [0, 1, 0, 1]] * boxes.new_tensor([0, 0, 1, 1])
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id,
            "category_id": categories[label - 1],
            "bbox": [round(side, 3) for side in box],
            "score": score,
        }
        for box, label, score in zip(
            boxes.tolist(), found["labels"].tolist(), found["scores"].tolist(), strict=True
        )
    ]
    if "masks" in found:
        for result, mask in zip(results, found["masks"].cpu().numpy(), strict=True):
            result["segmentation"] = run_lengths(mask)
    return results


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask `(H, W)` as COCO's run-length code: column by column, as a string.

    Raises:
        ModuleNotFoundError: faster-coco-eval is not installed.
    """
    from faster_coco_eval.core import mask as mask_utils  # type: ignore[import-untyped]

    code = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
    counts = code["counts"]
    return {
        "size": [int(side) for side in code["size"]],
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }
