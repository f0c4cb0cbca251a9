"""The search network: cells in which all operations of an edge compete, and what they settle on.

The continuous relaxation of "DARTS: Differentiable Architecture Search" (ICLR 2019, Section 2.2)
over trainable and parameter-free operations. Search space and settings of the parameter-free paper
could not be read; operations without parameters are bare, as in its networks.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_models.parameter_free.cells import (
    CELL_FACTS,
    CELL_FEATURES,
    Cell,
    CellStack,
    Edges,
    Genotype,
    kind_of_cell,
)
from lit_models.parameter_free.operations import OPERATIONS, Operation, spatial_operation
from lit_models.registry import register_network

# Edges that a node of a found cell keeps.
INCOMING = 2
_DEVIATION = 1e-3


class MixedOperation(nn.Module):
    """All operations of an edge, weighted by the softmax of what the search learns about them.

    Args:
        operations: The operations that compete.
        channels: Channels of input and output.
        stride: Their stride.
        preferences: Logits of the operations, `(operations,)`; cells that are searched together
            share them.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        channels: int,
        stride: int,
        preferences: nn.Parameter,
    ) -> None:
        super().__init__()
        self.operations = tuple(operations)
        self.candidates = nn.ModuleList(
            spatial_operation(name, channels, stride=stride) for name in operations
        )
        self.preferences = preferences

    def weights(self) -> Tensor:
        """Weights of the operations, `(operations,)`; they sum up to 1."""
        return self.preferences.softmax(0)

    def forward(self, x: Tensor) -> Tensor:
        """Weighted sum of what all operations make of `x: (N, C, H, W)`."""
        weights = self.weights()
        terms = [weights[i] * operation(x) for i, operation in enumerate(self.candidates)]
        mixed: Tensor = sum(terms[1:], start=terms[0])
        return mixed


class SearchNetwork(CellStack):
    """A network of cells with every operation on every edge.

    Args:
        operations: The operations that compete; None for all of `OPERATIONS`.
        nodes: Nodes of a cell.
        individual: Whether every cell finds its own operations; else all normal cells share them,
            and so do both reduction cells.
        cells: Number of cells.
        channels: As in `CellStack`.
        options: What else `CellStack` takes.

    Raises:
        ValueError: If there is nothing to choose from, or an operation is unknown.
    """

    def __init__(
        self,
        operations: Sequence[Operation] | None = None,
        nodes: int = 4,
        individual: bool = False,
        cells: int = 8,
        channels: int = 16,
        **options: Any,
    ) -> None:
        self.operations = tuple(OPERATIONS if operations is None else operations)
        if len(set(self.operations)) < 2 or nodes < 1:
            raise ValueError(
                f"operations {list(self.operations)}, nodes {nodes}: a search needs two different "
                "operations and a node"
            )
        self.nodes, self.individual = nodes, individual
        # By cell, then by edge; only while the cells are built.
        self.preferences_of: dict[str, list[nn.Parameter]] = {}
        super().__init__(cells, channels, **options)
        del self.preferences_of

    def edges_of(self, index: int, cells: int, channels: int, stride: int) -> Edges:
        """Return mixtures on the edges from every earlier node to every later one."""
        name = f"cell{index}" if self.individual else kind_of_cell(index, cells)
        number = sum(range(2, self.nodes + 2))
        if name not in self.preferences_of:
            self.preferences_of[name] = [
                nn.Parameter(_DEVIATION * torch.randn(len(self.operations))) for _ in range(number)
            ]
        preferences = iter(self.preferences_of[name])
        return [
            [
                (
                    source,
                    MixedOperation(
                        self.operations, channels, stride if source < 2 else 1, next(preferences)
                    ),
                )
                for source in range(node + 2)
            ]
            for node in range(self.nodes)
        ]

    def architecture(self) -> list[nn.Parameter]:
        """What the search learns about the edges, one parameter each, shared ones once."""
        edges = (module for module in self.modules() if isinstance(module, MixedOperation))
        return list(dict.fromkeys(edge.preferences for edge in edges))

    @torch.no_grad()
    def genotype(self) -> Genotype:
        """Return the cells as they stand: each node's strongest edges with their best operation."""
        found: Genotype = {}
        for index, cell in enumerate(self.cells):
            kind = kind_of_cell(index, len(self.cells))
            name = f"cell{index}" if self.individual else kind
            if name not in found:
                edges: Iterator[Any] = iter(cast(Cell, cell).edges)
                found[name] = [
                    _strongest([next(edges) for _ in range(node + 2)]) for node in range(self.nodes)
                ]
        return found


def _strongest(edges: list[MixedOperation]) -> list[tuple[int, Operation]]:
    """Return sources and operations of the edges of a node with the largest weights."""
    best = [edge.weights().max(0) for edge in edges]
    order = sorted(range(len(edges)), key=lambda source: -float(best[source].values))
    kept = sorted(order[:INCOMING])
    return [(source, edges[source].operations[int(best[source].indices)]) for source in kept]


register_network("cell_search", SearchNetwork, CELL_FACTS, CELL_FEATURES)
