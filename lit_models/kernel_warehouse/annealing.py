"""The temperature of a network: how much of the initial assignment still stands (section 3.4)."""

import torch
from torch import nn

from lit_models.kernel_warehouse.layers import kernel_layers
from lit_models.kernel_warehouse.warehouse import Temperature


def set_temperature(network: nn.Module, value: float) -> None:
    """Set the temperature of all attentions of a network.

    Args:
        network: Any network with KernelWarehouse layers, also wrapped or compiled.
        value: From 1, where every mixture is the cell that it was given, to 0, where that is
            forgotten.

    Raises:
        ValueError: If the value is not between 0 and 1 or the network has no attention.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"the temperature is {value}; it must be between 0 and 1")
    for buffer in _temperatures(network):
        with torch.no_grad():
            buffer.value.fill_(value)


def temperature(network: nn.Module) -> float:
    """Return the temperature of the attentions of a network.

    Raises:
        ValueError: If the network has no attention.
    """
    return _temperatures(network)[0].value.item()


def _temperatures(network: nn.Module) -> list[Temperature]:
    # One, unless the network was put together from several.
    found = list(dict.fromkeys(layer.warehouse.temperature for layer in kernel_layers(network)))
    if not found:
        raise ValueError(
            "the network has no KernelWarehouse layer, so no temperature; use a KernelWarehouse "
            "network, or leave the annealing out"
        )
    return found
