"""What is trained. Importing this package makes timm know all of the suite's networks."""

from lit_models import backbones as _backbones  # noqa: F401 - registers its networks
from lit_models import resnext as _resnext  # noqa: F401 - registers its networks
from lit_models.classifier import ImageClassifier
from lit_models.detector import Detector
from lit_models.do_conv import gluoncv as _gluoncv  # noqa: F401 - registers its networks
from lit_models.do_conv import networks as _do_conv_networks  # noqa: F401 - registers its networks
from lit_models.do_conv import official as _do_conv_weights  # noqa: F401 - registers its names
from lit_models.do_conv.module import DOConvClassifier, DOConvDetector
from lit_models.kernel_warehouse.module import KWClassifier, KWDetector
from lit_models.network_training import NetworkTraining
from lit_models.official import load_official
from lit_models.parameter_free.module import ParameterFreeClassifier, ParameterFreeDetector
from lit_models.parameter_free.search_module import ArchitectureSearch

__all__ = [
    "ArchitectureSearch",
    "DOConvClassifier",
    "DOConvDetector",
    "Detector",
    "ImageClassifier",
    "KWClassifier",
    "KWDetector",
    "NetworkTraining",
    "ParameterFreeClassifier",
    "ParameterFreeDetector",
    "load_official",
]
