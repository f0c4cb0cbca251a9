"""State dicts with the authors' keys, both ways.

Their ResNets name all layers in their own way. Their transformers have our names, but the second
norm of a block comes after its MLP.
"""

import re
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from lit_models.official import register_translation
from lit_models.parameter_free.layers import EffLayer
from lit_models.parameter_free.networks import ParameterFreeResNet

_RESNET_LAYER = re.compile(r"(layer\d\.\d+\.)?(conv|bn)(\d)\.(?:conv\.)?(.*)")
_BOTTLENECK = {"1": "reduction_block", "2": "conv_block", "3": "expansion_block"}
_BLOCK = re.compile(r"(?:transformers\.\d+\.)?blocks\.\d+\.")


def authors_keys(network: nn.Module) -> dict[str, str]:
    """Return the authors' state-dict keys, in their order, and ours for each.

    Args:
        network: A ResNet of this family, or a transformer with eff-layers.
    """
    keys = list(network.state_dict())
    if isinstance(network, ParameterFreeResNet):
        return {_resnet_name(key, keys): key for key in keys}
    return {key: key for key in _second_norms_last(keys)}


def to_ours(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict under our keys."""
    return {key: state[theirs] for theirs, key in authors_keys(network).items()}


def to_official(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict under the authors' keys, in their order."""
    return {theirs: state[key] for theirs, key in authors_keys(network).items()}


def _resnet_name(name: str, names: Collection[str]) -> str:
    layer = _RESNET_LAYER.fullmatch(name)
    if not layer:
        return name
    block, kind, number, rest = layer.groups()
    if block is None:
        part = "conv1"
    elif number == "2" and f"{block}conv2.conv.weight" in names:
        # Theirs follows an average-pool.
        part = f"{block}conv_block.1"
    else:
        part = block + _BOTTLENECK[number]
    return f"{part}.{0 if kind == 'conv' else 1}.{rest}"


def _second_norms_last(names: list[str]) -> list[str]:
    def block(name: str) -> str:
        found = _BLOCK.match(name)
        return found[0] if found else name

    first: dict[str, int] = {}
    for index, name in enumerate(names):
        first.setdefault(block(name), index)
    return sorted(names, key=lambda name: (first[block(name)], ".norm2." in name))


def _translates(network: nn.Module) -> bool:
    layers = (isinstance(module, EffLayer) for module in network.modules())
    return isinstance(network, ParameterFreeResNet) or any(layers)


register_translation(_translates, to_ours, to_official)
