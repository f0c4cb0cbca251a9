"""Faster and Mask R-CNN with a feature pyramid: torchvision's, as the papers' toolbox sets it up.

The papers use MMDetection. Where its configuration and torchvision's defaults differ, this follows
MMDetection as far as torchvision's options go: 1000 proposals an image in training (2000),
anchors of 8 strides on every level, as many sampling points of RoIAlign as the size of a region
asks for (2 x 2), the image's own size restored before masks are pasted. What still differs:

- torchvision rounds the corners of anchors to whole pixels.
- RoIAlign is not shifted by half a pixel (`aligned=False` there).
- Box losses are smooth L1 with a bend at 1/9, here of both stages; MMDetection's is L1.
- In the first stage every object gets its best anchor; MMDetection wants an overlap of 0.3 for
  that. In the second none does; MMDetection lets a proposal be an object's best above 0.5.
- Proposals of less than 0.001 pixels and detections of less than 0.01 pixels are dropped.
- The pyramid starts by He's uniform rule, MMDetection's by Xavier's; the box head's linear layers
  start as torch draws them, there by Xavier's rule.
- There is a mask and a box for the background class, which nothing uses: 4,357 parameters.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN  # type: ignore[import-untyped]
from torchvision.models.detection.anchor_utils import (  # type: ignore[import-untyped]
    AnchorGenerator,
)
from torchvision.ops import (  # type: ignore[import-untyped]
    FeaturePyramidNetwork,
    MultiScaleRoIAlign,
)
from torchvision.ops.feature_pyramid_network import (  # type: ignore[import-untyped]
    LastLevelMaxPool,
)

from lit_models.detection.feature_maps import FeatureMaps


@dataclass(frozen=True)
class RCNNSettings:
    """What an R-CNN is made of, and how it is trained and tested.

    Args:
        masks: Whether it predicts masks, too (Mask R-CNN).
        min_size: Shorter side that tested images are resized to.
        max_size: Longer side that they do not exceed. Training images come in their size.
        mean: Mean of the channels, of values from 0 to 1.
        std: Standard deviation of the channels.
        pyramid_channels: Channels of the pyramid's maps.
        anchor_scale: Side of a square anchor in strides of its level.
        anchor_ratios: Heights by widths of the anchors.
        rpn_samples: Anchors of an image that the first stage's loss is computed on.
        proposals_before_nms: Proposals of a level in training, before non-maximum suppression.
        proposals: Proposals of an image in training, after it.
        test_proposals: Both numbers in test.
        roi_samples: Proposals of an image that the second stage's loss is computed on.
        roi_positives: Largest part of them that may be objects.
        score_threshold: Detections with a lower score are dropped.
        nms_threshold: Overlap of two detections of a class of which one is dropped.
        detections: Most detections of an image.
    """

    masks: bool = True
    min_size: int = 800
    max_size: int = 1333
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    pyramid_channels: int = 256
    anchor_scale: int = 8
    anchor_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    rpn_samples: int = 256
    proposals_before_nms: int = 2000
    proposals: int = 1000
    test_proposals: int = 1000
    roi_samples: int = 512
    roi_positives: float = 0.25
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    detections: int = 100


class PyramidBackbone(nn.Module):
    """A backbone's feature maps, and the feature pyramid on top of them with one more level.

    Args:
        maps: The feature maps.
        channels: Channels of the pyramid's maps.
    """

    def __init__(self, maps: FeatureMaps, channels: int) -> None:
        super().__init__()
        self.maps = maps
        self.pyramid = FeaturePyramidNetwork(maps.channels, channels, LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The levels by name, finest first: `0`, `1` ... and `pool`."""
        maps = OrderedDict((str(n), level) for n, level in enumerate(self.maps(images)))
        levels: dict[str, Tensor] = self.pyramid(maps)
        return levels


def build_rcnn(maps: FeatureMaps, num_classes: int, settings: RCNNSettings) -> FasterRCNN:
    """Return Mask R-CNN, or Faster R-CNN, on a backbone's feature maps.

    It takes and gives what torchvision's detectors do; class 0 is the background.

    Args:
        maps: The feature maps.
        num_classes: Number of classes, the background not counted.
        settings: The settings.
    """
    strides = [*maps.reductions, 2 * maps.reductions[-1]]
    anchors = AnchorGenerator(
        sizes=tuple((settings.anchor_scale * stride,) for stride in strides),
        aspect_ratios=(tuple(settings.anchor_ratios),) * len(strides),
    )
    names = [str(n) for n in range(len(maps.channels))]
    options: dict[str, Any] = {}
    if settings.masks:
        options["mask_roi_pool"] = MultiScaleRoIAlign(names, output_size=14, sampling_ratio=0)
    return (MaskRCNN if settings.masks else FasterRCNN)(
        PyramidBackbone(maps, settings.pyramid_channels),
        num_classes + 1,
        min_size=settings.min_size,
        max_size=settings.max_size,
        image_mean=settings.mean,
        image_std=settings.std,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=settings.proposals_before_nms,
        rpn_pre_nms_top_n_test=settings.test_proposals,
        rpn_post_nms_top_n_train=settings.proposals,
        rpn_post_nms_top_n_test=settings.test_proposals,
        rpn_batch_size_per_image=settings.rpn_samples,
        box_roi_pool=MultiScaleRoIAlign(names, output_size=7, sampling_ratio=0),
        box_score_thresh=settings.score_threshold,
        box_nms_thresh=settings.nms_threshold,
        box_detections_per_img=settings.detections,
        box_batch_size_per_image=settings.roi_samples,
        box_positive_fraction=settings.roi_positives,
        # Training images have been resized where they were augmented.
        _skip_resize=True,
        **options,
    )
