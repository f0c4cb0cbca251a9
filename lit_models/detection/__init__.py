"""Parts of the detectors: feature maps of any backbone, R-CNN, rates by layer, precision."""

from lit_models.detection.average_precision import AveragePrecision
from lit_models.detection.feature_maps import FeatureMaps, FeatureSettings
from lit_models.detection.layer_rates import parameter_groups
from lit_models.detection.pretraining import load_pretrained
from lit_models.detection.rcnn import RCNNSettings, build_rcnn

__all__ = [
    "AveragePrecision",
    "FeatureMaps",
    "FeatureSettings",
    "RCNNSettings",
    "build_rcnn",
    "load_pretrained",
    "parameter_groups",
]
