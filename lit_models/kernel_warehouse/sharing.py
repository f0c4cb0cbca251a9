"""How the layers of a network share the cells of a warehouse, read off their attentions."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lit_models.kernel_warehouse.layers import KWConv, kernel_layers
from lit_models.kernel_warehouse.warehouse import Shelf


@dataclass(frozen=True)
class SharedWarehouse:
    """A warehouse and the layers that draw from it.

    Attributes:
        num_cells: Cells in the warehouse.
        shelves: The layers' places in it, by the layers' names.
    """

    num_cells: int
    shelves: dict[str, Shelf]


@dataclass(frozen=True)
class SharingStatistics:
    """What the layers of a warehouse do with its cells.

    Attributes:
        layers_per_cell: By how many layers each cell is used, int64 (cells,). A layer uses a cell
            if one of its mixtures gives the cell at least an equal share of its attention, so at
            least 1 / cells of the sum of the attention's magnitudes.
        cells_per_mixture: The effective number of cells of every layer's mixtures (mixtures,), by
            the layers' names.
        at_home: Of every layer, the part of its attention that is given to its own cells, from 0
            to 1; None where it gives none at all.
    """

    layers_per_cell: Tensor
    cells_per_mixture: dict[str, Tensor]
    at_home: dict[str, float | None]


def shared_warehouses(network: nn.Module) -> list[SharedWarehouse]:
    """The warehouses of a network, in the order of the layers that own them."""
    known = set(kernel_layers(network))
    layers: dict[nn.Module, dict[str, KWConv]] = {}
    for name, module in network.named_modules():
        if isinstance(module, KWConv) and module in known:
            layers.setdefault(module.warehouse, {})[name] = module
    return [
        SharedWarehouse(
            next(iter(of.values())).attention.num_cells,
            {name: layer.attention.shelf for name, layer in of.items()},
        )
        for of in layers.values()
    ]


def effective_cells(attention: Tensor) -> Tensor:
    """The effective number of cells of each mixture: `(...)` of `attention: (..., cells)`.

    That is exp(entropy) of the magnitudes: 1 where one cell has all the attention, n where n cells
    have equal parts, 0 where there is none.
    """
    magnitudes = attention.float().abs()
    total = magnitudes.sum(-1, keepdim=True)
    entropy: Tensor = torch.special.entr(magnitudes / total.clamp(min=1e-12)).sum(-1)
    return torch.where(total.squeeze(-1) > 0, entropy.exp(), 0.0)


def sharing_of(warehouse: SharedWarehouse, attentions: Mapping[str, Tensor]) -> SharingStatistics:
    """Statistics of a warehouse.

    Args:
        warehouse: The warehouse.
        attentions: Coefficients `(mixtures, cells)` of each of its layers, by the layers' names.
    """
    layers_per_cell = torch.zeros(warehouse.num_cells, dtype=torch.int64)
    cells_per_mixture: dict[str, Tensor] = {}
    at_home: dict[str, float | None] = {}
    for name, shelf in warehouse.shelves.items():
        magnitudes = attentions[name].float().abs()
        total = magnitudes.sum(-1, keepdim=True)
        used = (magnitudes > 0) & (magnitudes * warehouse.num_cells >= total)
        layers_per_cell += used.any(0).cpu()
        cells_per_mixture[name] = effective_cells(magnitudes)
        own = magnitudes[:, shelf.first_cell : shelf.first_cell + shelf.num_cells].sum()
        at_home[name] = (own / total.sum()).item() if total.sum() > 0 else None
    return SharingStatistics(layers_per_cell, cells_per_mixture, at_home)
