"""State dicts with the authors' keys, both ways.

The authors' networks number their warehouses and keep them first; the other names are those of
their own backbones. Initial assignments and the temperature are in none of their state dicts.
"""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lit_models.kernel_warehouse.layers import KWConv, KWLinear, kernel_layers
from lit_models.kernel_warehouse.published import MOBILENET_V2_DEPTHS
from lit_models.official import register_translation

_CELLS = "warehouse.cells"
_TEMPERATURE = "warehouse.temperature.value"

# The authors' modules come in this order; timm's downsampling is inside its stages.
_CONVNEXT_ORDER = ("downsample_layers", "stages", "norm", "head")
_CONVNEXT = (
    (r"^stem\.(\d)", r"downsample_layers.0.\1"),
    (r"^stages\.(\d)\.downsample\.(\d)", r"downsample_layers.\1.\2"),
    (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
    (r"\.conv_dw\b", ".dwconv"),
    (r"\.mlp\.fc(\d)", r".pwconv\1"),
    (r"^head\.norm", "norm"),
    (r"^head\.fc", "head"),
)
_INVERTED_RESIDUAL = {
    "conv_pw": "conv.0.0",
    "bn1": "conv.0.1",
    "conv_dw": "conv.1.0",
    "bn2": "conv.1.1",
    "conv_pwl": "conv.2",
    "bn3": "conv.3",
}
_FIRST_BLOCK = {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"}


def authors_keys(network: nn.Module) -> dict[str, str]:
    """Return the authors' state-dict keys, in their order, and ours for each.

    Args:
        network: A network of this family, or any other with KernelWarehouse layers: its modules
            keep their names then.
    """
    rename, rank = _naming(network)
    linears = tuple(
        f"{name}." for name, layer in network.named_modules() if isinstance(layer, KWLinear)
    )
    modules: dict[str, str] = {}
    for key in network.state_dict():
        if key.endswith((_CELLS, _TEMPERATURE)):
            continue
        prefix = next((name for name in linears if key.startswith(name)), "")
        # The authors' linear layer holds a 1d convolution.
        theirs = f"{rename(prefix)}conv.{key.removeprefix(prefix)}" if prefix else rename(key)
        modules[theirs] = key
    keys = {f"warehouse_manager.weights.{i}": key for i, key in enumerate(_cells(network))}
    return keys | {theirs: modules[theirs] for theirs in sorted(modules, key=rank)}


def to_ours(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' state dict under our keys.

    The temperature becomes 0, where it is when training is over.
    """
    ours = {key: state[theirs] for theirs, key in authors_keys(network).items()}
    temperatures = [key for key in network.state_dict() if key.endswith(_TEMPERATURE)]
    return ours | {key: torch.zeros(()) for key in temperatures}


def to_official(network: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our state dict under the authors' keys, in their order."""
    return {theirs: state[key] for theirs, key in authors_keys(network).items()}


def _cells(network: nn.Module) -> list[str]:
    """Return the keys of the warehouses' cells in the order of the authors' numbers.

    They number warehouses as layers first draw from them, in the order of their modules.
    """
    rename, rank = _naming(network)
    layers = {
        rename(name): (name, layer)
        for name, layer in network.named_modules()
        if isinstance(layer, KWConv)
    }
    owned = {
        layer.warehouse: f"{name}.{_CELLS}"
        for name, layer in layers.values()
        if "warehouse" in layer._modules
    }
    drawn = (layers[theirs][1].warehouse for theirs in sorted(layers, key=rank))
    return [owned[warehouse] for warehouse in dict.fromkeys(drawn)]


def _naming(network: nn.Module) -> tuple[Callable[[str], str], Callable[[str], int]]:
    """Return the authors' name for one of ours, and the place of a name of theirs."""
    backbone = getattr(network, "authors_names", None)
    if backbone == "convnext":
        return _convnext_name, lambda name: _CONVNEXT_ORDER.index(name.split(".")[0])
    if backbone == "mobilenet_v2":
        static_head = isinstance(network.get_submodule("classifier"), nn.Linear)
        bare = static_head and any(True for _ in kernel_layers(network))
        head = "classifier" if bare else "classifier.1"
        return lambda name: _mobilenet_v2_name(name, head), lambda name: 0
    return lambda name: name, lambda name: 0


def _convnext_name(name: str) -> str:
    for pattern, replacement in _CONVNEXT:
        name = re.sub(pattern, replacement, name)
    return name


def _mobilenet_v2_name(name: str, head: str) -> str:
    block = re.match(r"blocks\.(\d)\.(\d)\.(\w+)(.*)", name)
    if block:
        group, index = int(block[1]), int(block[2])
        feature = 1 + sum(MOBILENET_V2_DEPTHS[:group]) + index
        modules = _INVERTED_RESIDUAL if group else _FIRST_BLOCK
        return f"features.{feature}.{modules[block[3]]}{block[4]}"
    last = 1 + sum(MOBILENET_V2_DEPTHS)
    tops = {
        "conv_stem": "features.0.0",
        "bn1": "features.0.1",
        "conv_head": f"features.{last}.0",
        "bn2": f"features.{last}.1",
        "classifier": head,
    }
    top, _, rest = name.partition(".")
    return tops[top] + name.removeprefix(top) if rest or top in tops else name


def _translates(network: nn.Module) -> bool:
    return hasattr(network, "authors_names") or any(True for _ in kernel_layers(network))


register_translation(_translates, to_ours, to_official)
