"""Batch normalisation that has its statistics, folded into the convolution before it."""

from collections import Counter

from torch import fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.modules.batchnorm import _BatchNorm


def fold_norms(network: nn.Module) -> nn.Module:
    """Return a copy without the norms that an evaluation can do without; the same up to rounding.

    A batch normalisation in evaluation scales and shifts each channel, which the weights of the
    convolution or linear layer before it may do as well. It is folded where torch can trace the
    network; where the forward pass depends on values, or layers are called more than once, the
    network itself is returned.

    Args:
        network: In evaluation mode.
    """
    if not any(isinstance(module, _BatchNorm) for module in network.modules()):
        return network
    try:
        traced = fx.symbolic_trace(network)
    except Exception:  # whatever a forward pass raises when it gets no numbers
        return network
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    modules = dict(traced.named_modules())
    weighted = [name for name in calls if any(True for _ in modules[str(name)].parameters())]
    if len({id(modules[str(name)]) for name in weighted}) < sum(calls[name] for name in weighted):
        return network
    return fuse(traced, no_trace=True)
