"""DO-Conv: convolutions that are over-parameterised in training and folded for use.

Source: "DO-Conv: Depthwise Over-parameterized Convolutional Layer", IEEE Transactions on Image
Processing 2022.
"""

from lit_models.do_conv.distance import distances_from_identity
from lit_models.do_conv.folding import (
    Fusion,
    OutputDifference,
    fuse,
    hold_kernels,
    output_difference,
    over_parameterise,
    release_kernels,
)
from lit_models.do_conv.layers import DOConv2d

__all__ = [
    "DOConv2d",
    "Fusion",
    "OutputDifference",
    "distances_from_identity",
    "fuse",
    "hold_kernels",
    "output_difference",
    "over_parameterise",
    "release_kernels",
]
