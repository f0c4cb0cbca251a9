"""Batch normalisation that has its statistics, folded into the convolution before it."""

from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm


def fold_norms(network: nn.Module) -> nn.Module:
    """Return a copy without the norms that an evaluation can do without; the same up to rounding.

    A batch normalisation in evaluation scales and shifts each channel, which the weights of the
    convolution or linear layer before it may do as well. It is folded where torch can trace the
    network; where the forward pass depends on values, or weights are used more than once or
    hooked, the network itself is returned.

    Args:
        network: In evaluation mode.
    """
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return network
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # whatever a forward pass raises when it gets no numbers
        return network
    return network if _uses_weights_otherwise(traced) else fuse(traced, no_trace=True)


def _uses_weights_otherwise(traced: fx.GraphModule) -> bool:
    """Whether a layer with weights is called twice, hooked, or read without being called."""
    names = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    layers = [traced.get_submodule(name) for name in names]
    layers = [layer for layer in layers if any(True for _ in layer.parameters())]
    read = [str(node.target) for node in traced.graph.nodes if node.op == "get_attr"]
    owners = {traced.get_submodule(name.rpartition(".")[0]) for name in read}
    return (
        len(set(layers)) < len(layers)
        or not owners.isdisjoint(layers)
        or any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)
    )
