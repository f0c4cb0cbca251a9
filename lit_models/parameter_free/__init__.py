"""Parameter-free layers: max-pool and average-pool where convolution and attention stand.

"Learning Features with Parameter-Free Layers", ICLR 2022, arXiv 2202.02777. Importing this package
registers its networks with timm and its weights with `load_official`.
"""

from lit_models.parameter_free import cell_search, cells, layer_study, networks, weights
from lit_models.parameter_free.generic import parameter_free_network
from lit_models.parameter_free.layers import (
    EffBottleneck,
    EffLayer,
    MaxBottleneck,
    SpatialBottleneck,
)
from lit_models.parameter_free.operations import (
    OPERATIONS,
    PARAMETER_FREE,
    bare_operation,
    spatial_operation,
)

__all__ = [
    "OPERATIONS",
    "PARAMETER_FREE",
    "EffBottleneck",
    "EffLayer",
    "MaxBottleneck",
    "SpatialBottleneck",
    "bare_operation",
    "cell_search",
    "cells",
    "layer_study",
    "networks",
    "parameter_free_network",
    "spatial_operation",
    "weights",
]
