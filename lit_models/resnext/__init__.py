"""ResNeXt, whose blocks have many narrow paths, and depthwise separable convolution.

"Aggregated Residual Transformations for Deep Neural Networks", CVPR 2017, arXiv 1611.05431, and
"MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", arXiv
1704.04861. Importing this package registers its networks with timm.
"""

from lit_models.resnext import mobilenet_v1, networks, preactivation, references, review
from lit_models.resnext.cardinality import block_parameters, width_at_constant_complexity
from lit_models.resnext.depthwise_cost import ConvolutionShape, costs_by_layer_type
from lit_models.resnext.depthwise_separable import DepthwiseSeparableConv2d
from lit_models.resnext.mobilenet_v1 import MobileNetV1

__all__ = [
    "ConvolutionShape",
    "DepthwiseSeparableConv2d",
    "MobileNetV1",
    "block_parameters",
    "costs_by_layer_type",
    "mobilenet_v1",
    "networks",
    "preactivation",
    "references",
    "review",
    "width_at_constant_complexity",
]
