"""State dicts of whole networks with the authors' keys, both ways.

In the authors' networks 1x1 convolutions are DO-Conv layers, too, which have W alone, and each D is
followed by `d_diag`, the constant that it is the difference from. Here 1x1 convolutions stay plain.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from lit_models.do_conv.layers import DOConv2d, has_own_kernel
from lit_models.do_conv.weights import d_diag
from lit_models.official import State, register_translation


def to_ours(network: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Return the authors' state dict under our keys; layers check and drop `d_diag` themselves."""
    ours = {theirs: key for key, theirs in _pointwise(network).items()}
    return {
        ours.get(key, key): value.unsqueeze(-1) if key in ours else value
        for key, value in state.items()
    }


def to_official(network: nn.Module, state: Mapping[str, Tensor]) -> State:
    """Return our state dict under the authors' keys, in their order: W, D, d_diag, bias."""
    pointwise, constants = _pointwise(network), _constants(network)
    theirs: State = {}
    for key, value in state.items():
        theirs[pointwise.get(key, key)] = value.flatten(2) if key in pointwise else value
        if key in constants:
            theirs[constants[key]] = torch.empty_like(value).copy_(d_diag(value.shape))
    return theirs


def _pointwise(network: nn.Module) -> dict[str, str]:
    """Keys of the kernels of plain 1x1 convolutions, and the authors' for each."""
    return {
        f"{prefix}weight": f"{prefix}W"
        for prefix, module in _modules(network)
        if isinstance(module, nn.Conv2d) and has_own_kernel(module) and module.kernel_size == (1, 1)
    }


def _constants(network: nn.Module) -> dict[str, str]:
    """Keys of every D, and the authors' for the constant that follows it."""
    return {
        f"{prefix}D": f"{prefix}d_diag"
        for prefix, module in _modules(network)
        if isinstance(module, DOConv2d) and module.D is not None
    }


def _modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every module and what its keys begin with; a shared one under each of its names."""
    for name, module in network.named_modules(remove_duplicate=False):
        yield f"{name}." if name else "", module


register_translation(
    lambda network: any(isinstance(module, DOConv2d) for module in network.modules()),
    to_ours,
    to_official,
)
