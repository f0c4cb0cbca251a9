"""What is trained. Importing this package makes timm know all of the suite's networks."""

from lit_models.classifier import ImageClassifier
from lit_models.do_conv import networks as _do_conv_networks  # noqa: F401 - registers its networks
from lit_models.do_conv.module import DOConvClassifier

__all__ = ["DOConvClassifier", "ImageClassifier"]
