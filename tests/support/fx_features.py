"""Feature extraction by torch.fx, as torchvision and timm do it."""

import timm
import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names


def assert_fx_takes_features_out(network: nn.Module, x: Tensor) -> None:
    """The traced graph computes the same and holds all parameters."""
    leaves = {"leaf_modules": list(timm.models.get_notrace_modules())}
    _, nodes = get_graph_node_names(network, tracer_kwargs=leaves)
    graph = create_feature_extractor(network, [nodes[-1]], tracer_kwargs=leaves)
    torch.testing.assert_close(graph(x)[nodes[-1]], network(x))
    ours = sum(parameter.numel() for parameter in network.parameters())
    assert sum(parameter.numel() for parameter in graph.parameters()) == ours
