"""The attentions of KernelWarehouse at several temperatures, and what they share."""

import copy
from typing import Any, NamedTuple

from torch import Tensor, nn

from callbacks.histograms import attentions
from lit_models.kernel_warehouse import (
    SharedWarehouse,
    SharingStatistics,
    set_temperature,
    shared_warehouses,
    sharing_of,
)

# From where every mixture is the cell that it was given, to where that is forgotten.
TEMPERATURES = (1.0, 0.5, 0.0)


class WarehouseLook(NamedTuple):
    """A warehouse at several temperatures.

    Attributes:
        warehouse: The warehouse.
        attentions: By temperatures, the mean over images of the coefficients `(mixtures, cells)`,
            by the layers' names.
        sharing: By temperatures, statistics of these means.
    """

    warehouse: SharedWarehouse
    attentions: dict[float, dict[str, Tensor]]
    sharing: dict[float, SharingStatistics]

    def facts(self) -> dict[str, Any]:
        """Numbers for a file; the lists are by temperatures, as `temperatures` has them."""
        found = list(self.sharing.values())
        return {
            "cells": self.warehouse.num_cells,
            "temperatures": list(self.sharing),
            "layers_per_cell": [one.layers_per_cell.tolist() for one in found],
            "layers": {
                name: {
                    "mixtures": shelf.mixtures,
                    "own_cells": shelf.num_cells,
                    "effective_cells": [one.cells_per_mixture[name].mean().item() for one in found],
                    "at_home": [one.at_home[name] for one in found],
                }
                for name, shelf in self.warehouse.shelves.items()
            },
        }


def look_at_warehouses(network: nn.Module, images: Tensor) -> list[WarehouseLook]:
    """Look at all warehouses of a network, which stays as it is; none without KernelWarehouse.

    Args:
        network: Any network.
        images: Its normalised images `(N, C, H, W)`.
    """
    warehouses = shared_warehouses(network)
    if not warehouses:
        return []
    network = copy.deepcopy(network)
    means: dict[float, dict[str, Tensor]] = {}
    for temperature in TEMPERATURES:
        set_temperature(network, temperature)
        found = attentions(network, images)
        means[temperature] = {name: values.float().mean(dim=0) for name, values in found.items()}
    looks = []
    for warehouse in warehouses:
        ours = {
            temperature: {name: by_layer[name] for name in warehouse.shelves}
            for temperature, by_layer in means.items()
        }
        shared = {
            temperature: sharing_of(warehouse, values) for temperature, values in ours.items()
        }
        looks.append(WarehouseLook(warehouse, ours, shared))
    return looks
