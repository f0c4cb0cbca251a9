"""Cells, small graphs of operations, and the networks that are made of them.

As in "DARTS: Differentiable Architecture Search" (ICLR 2019): a cell takes what the two cells
before it made, each of its nodes is a sum of operations on earlier nodes, and its output is all of
its nodes. Reduction cells halve the maps and double the channels.
"""

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from lit_models.backbones import CIFAR_FACTS
from lit_models.parameter_free.headed import HeadedNetwork
from lit_models.parameter_free.operations import (
    OPERATIONS,
    PARAMETER_FREE,
    Operation,
    spatial_operation,
)
from lit_models.registry import register_network

Nodes = list[list[tuple[int, Operation]]]
"""For each node of a cell, its edges: the node they come from (0 and 1 are the cell's inputs, the
cell before the last and the last one; 2 is the first node) and their operation."""
Genotype = dict[str, Nodes]
"""Cells by name: `normal` and `reduction` for all cells of their kind, or `cell0`, `cell1` ..."""
Edges = list[list[tuple[int, nn.Module]]]

KINDS = ("normal", "reduction")
CONVOLUTIONS: Genotype = {kind: [[(0, "conv"), (1, "conv")]] * 2 for kind in KINDS}


def read_genotype(given: str | Path | Mapping[str, Any]) -> Genotype:
    """Return a genotype from a YAML or JSON file, or from what such a file holds.

    Args:
        given: Path of a file, or cells by name, each a list of nodes, each a list of edges
            `[source, operation]`.

    Raises:
        ValueError: If there is no such file or it is no genotype; the message names the place.
    """
    where, cells = "genotype", given
    if isinstance(given, str | Path):
        where = f"genotype {given}"
        try:
            cells = yaml.safe_load(Path(given).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{where} could not be read: {reason}") from error
    if not isinstance(cells, Mapping) or not cells:
        raise ValueError(f"{where} is {cells!r}; write cells by name, each a list of nodes")
    return {str(name): _nodes(nodes, f"{where}: {name}") for name, nodes in cells.items()}


def _nodes(nodes: Any, where: str) -> Nodes:
    checked: Nodes = []
    for node in nodes if isinstance(nodes, list) else [nodes]:
        edges: list[tuple[int, Operation]] = []
        for edge in node if isinstance(node, list) else [node]:
            if not isinstance(edge, list | tuple) or len(edge) != 2 or edge[1] not in OPERATIONS:
                raise ValueError(
                    f"{where}: {edge!r} is no edge [source, operation] with one of "
                    f"{', '.join(OPERATIONS)}"
                )
            if edge[0] not in range(len(checked) + 2):
                raise ValueError(f"{where}: node {len(checked) + 2} comes after node {edge[0]}")
            edges.append((edge[0], edge[1]))
        if not edges:
            raise ValueError(f"{where}: node {len(checked) + 2} has no edge")
        checked.append(edges)
    if not checked:
        raise ValueError(f"{where} has no node")
    return checked


def parameter_free_share(nodes: Nodes) -> float:
    """Return the share of a cell's operations that have no parameters, 0 to 1."""
    operations = [operation for node in nodes for _, operation in node]
    return sum(operation in PARAMETER_FREE for operation in operations) / len(operations)


def kind_of_cell(index: int, cells: int) -> str:
    """Return the kind of a cell: those after a third and two thirds of a network are reductions."""
    return "reduction" if index in (cells // 3, 2 * cells // 3) else "normal"


class Cell(nn.Module):
    """A cell: nodes that are sums of operations on the outputs of two cells and on earlier nodes.

    Args:
        before: Channels of the two inputs.
        channels: Channels of every node.
        edges: For each node, sources and modules; those on the inputs carry the cell's stride.
        shrink: Whether the first input has maps of twice the size of the second's.
    """

    def __init__(
        self, before: tuple[int, int], channels: int, edges: Edges, shrink: bool = False
    ) -> None:
        super().__init__()
        self.fit0 = _fit(before[0], channels, 2 if shrink else 1)
        self.fit1 = _fit(before[1], channels)
        self.sources = [[source for source, _ in node] for node in edges]
        self.edges = nn.ModuleList(module for node in edges for _, module in node)

    def forward(self, earlier: Tensor, last: Tensor) -> Tensor:
        """All nodes, `(N, nodes * channels, h, w)`, of the outputs of two cells before."""
        states = [self.fit0(earlier), self.fit1(last)]
        edges = iter(self.edges)
        for sources in self.sources:
            terms = [next(edges)(states[source]) for source in sources]
            states.append(sum(terms[1:], start=terms[0]))
        return torch.cat(states[2:], dim=1)


def _fit(channels: int, wanted: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, wanted, 1, stride, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(wanted))


class CellStack(HeadedNetwork):
    """Base of networks of cells; a subclass says what their edges are.

    Args:
        cells: Number of cells.
        channels: Channels of a node in the first cells; each reduction doubles them.
        stem_stride: Stride of the stem, a 3x3 convolution.
        num_classes: Number of classes, 0 for no classifier.
        in_chans: Channels of the image.
        global_pool: How the last maps are pooled, as in timm; empty for not at all.
        drop_rate: Dropout before the classifier.

    Raises:
        ValueError: If there are too few cells for two reductions and a normal cell.
    """

    def __init__(
        self,
        cells: int,
        channels: int,
        stem_stride: int = 1,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if cells < 3:
            raise ValueError(f"cells is {cells}; a network has at least 3, two of them reductions")
        width = 3 * channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_chans, width, 3, stem_stride, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        self.cells = nn.ModuleList()
        features: dict[int, dict[str, Any]] = {}
        before, reduction, shrink = (width, width), stem_stride, False
        for index in range(cells):
            strides = kind_of_cell(index, cells) == "reduction"
            if strides:
                channels, reduction = 2 * channels, 2 * reduction
            edges = self.edges_of(index, cells, channels, 2 if strides else 1)
            self.cells.append(Cell(before, channels, edges, shrink))
            before, shrink = (before[1], len(edges) * channels), strides
            info = {"num_chs": before[1], "reduction": reduction, "module": f"cells.{index}"}
            features[reduction] = info
        # The last cell of every size.
        self.feature_info = list(features.values())
        self.add_head(before[1], num_classes, global_pool, drop_rate)

    @abstractmethod
    def edges_of(self, index: int, cells: int, channels: int, stride: int) -> Edges:
        """Return the edges of a cell; those on its inputs have the stride."""

    def forward_features(self, x: Tensor) -> Tensor:
        """Last maps `(N, C, h, w)` of `x: (N, in_chans, H, W)`."""
        last: Tensor = self.stem(x)
        earlier = last
        for cell in self.cells:
            earlier, last = last, cell(earlier, last)
        return last


class CellNetwork(CellStack):
    """A network of cells that a search has found, or that were made by hand.

    Args:
        genotype: The cells: path of a YAML or JSON file, or what such a file holds; see
            `read_genotype`. Cells named `normal` and `reduction` go into networks of any length.
        cells: Number of cells; by default 8, or as many as the genotype has of its own.
        channels: As in `CellStack`.
        options: What else `CellStack` takes.

    Raises:
        ValueError: If the genotype is none, or lacks a cell.
    """

    def __init__(
        self,
        genotype: str | Mapping[str, Any] = CONVOLUTIONS,
        cells: int | None = None,
        channels: int = 16,
        **options: Any,
    ) -> None:
        self.genotype = read_genotype(genotype)
        if cells is None:
            cells = 8 if set(self.genotype) <= set(KINDS) else len(self.genotype)
        super().__init__(cells, channels, **options)

    def edges_of(self, index: int, cells: int, channels: int, stride: int) -> Edges:
        """Return the edges of a cell, those of its own or of its kind."""
        kind = kind_of_cell(index, cells)
        nodes = self.genotype.get(f"cell{index}", self.genotype.get(kind))
        if nodes is None:
            known = ", ".join(self.genotype)
            raise ValueError(
                f"cell {index} of {cells}, a {kind} one, is not in the genotype's {known}"
            )
        return [
            [
                (source, spatial_operation(name, channels, stride=stride if source < 2 else 1))
                for source, name in node
            ]
            for node in nodes
        ]


CELL_FACTS = {**CIFAR_FACTS, "pool_size": (8, 8), "first_conv": "stem.0", "classifier": "head.fc"}
CELL_FEATURES = {"out_indices": (0, 1, 2), "feature_cls": "fx"}
register_network("cell_network", CellNetwork, CELL_FACTS, CELL_FEATURES)
