"""Cutting a network's kernels into warehouses of a sensible size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from lit_models.kernel_warehouse.attention import Norm
from lit_models.kernel_warehouse.plans import Plan, WarehousePlan, kernel_of
from lit_models.kernel_warehouse.warehouse import Shelf, cell_shape, shelves

Modules = dict[str, nn.Module]

# The attentions to a warehouse grow with the square of its mixtures. The papers' largest, at cells
# of full size, has 441; what would have more than this is spread over several warehouses.
_MAX_MIXTURES = 512
# Kernels of more positions, as those that embed patches, are not cut along the spatial axes.
_MAX_POSITIONS = 64


@dataclass(frozen=True)
class Planner:
    """What all warehouses have in common; `warehouse_network` says what None stands for.

    Attributes:
        cell_num_ratio: See `WarehousePlan`, as for the others.
        cell_inplane_ratio: None to choose one for each warehouse.
        cell_outplane_ratio: None to choose one for each warehouse.
        reduction: See above.
        nonlocal_basis_ratio: See above.
        norm: See above.
        thrifty: Leave kernels static where a warehouse would not save parameters.
    """

    cell_num_ratio: float
    cell_inplane_ratio: float | None
    cell_outplane_ratio: float | None
    reduction: float
    nonlocal_basis_ratio: float
    norm: Norm
    thrifty: bool = False

    def plan(self, groups: dict[str, Modules]) -> tuple[Plan, dict[str, str]]:
        """Return the plan for modules in groups that may share, and why others are not in it."""
        entries: list[WarehousePlan] = []
        static: dict[str, str] = {}
        for group, members in groups.items():
            parts = list(self._parts(members))
            for number, (modules, cut) in enumerate(parts):
                if isinstance(cut, str):
                    static |= dict.fromkeys(modules, cut)
                    continue
                entries.append(
                    WarehousePlan(
                        group if len(parts) == 1 else f"{group}_{number}",
                        tuple(modules),
                        self.cell_num_ratio,
                        *cut,
                        self.reduction,
                        self.nonlocal_basis_ratio,
                        not large(modules),
                        self.norm,
                    )
                )
        return tuple(entries), static

    def _parts(self, modules: Modules) -> Iterator[tuple[Modules, tuple[float, float] | str]]:
        """Split modules until each part can be cut into cells of one shape and is not too large.

        Kernels of different shapes stay together unless that makes cells so small that the
        attentions outweigh them. Where parameters are to be saved, so do kernels of one shape.

        Yields:
            Modules, and their cells' in-plane and out-plane ratio or why they stay static.
        """
        by_shape: dict[tuple[int, ...], Modules] = {}
        for name, module in modules.items():
            by_shape.setdefault(kernel_of(module), {})[name] = module
        try:
            cut, places = self._cut(modules)
        except ValueError as error:
            if len(by_shape) == 1:
                yield modules, str(error)
                return
        else:
            cells, attentions = self._sizes(modules, places)
            saves = self.cell_num_ratio < 1
            crowded = sum(place.mixtures for place in places) > _MAX_MIXTURES
            heavy = attentions > cells and (len(by_shape) > 1 or saves)
            if len(modules) == 1 or not (crowded or heavy):
                kernels = sum(math.prod(place.kernel) for place in places)
                wasteful = self.thrifty and saves and cells + attentions >= kernels
                yield modules, "a warehouse would save nothing" if wasteful else cut
                return
        for part in by_shape.values() if len(by_shape) > 1 else _halves(modules):
            yield from self._parts(part)

    def _cut(self, modules: Modules) -> tuple[tuple[float, float], tuple[Shelf, ...]]:
        """Return in-plane and out-plane ratio with which kernels can be cut, and the pieces.

        Below a cell_num_ratio of 1, input channels are cut first: the mixtures that start without
        a cell are then in every row of a kernel, and no output channel starts at zero.

        Raises:
            ValueError: If the kernels cannot be cut.
        """
        kernels = [kernel_of(module) for module in modules.values()]
        n = round(1 / self.cell_num_ratio) if 0 < self.cell_num_ratio < 1 else 1
        cuts = [(part / n, 1 / part) for part in range(1, n + 1) if n % part == 0] + [(1.0, 1.0)]
        failure: ValueError | None = None
        given_in, given_out = self.cell_inplane_ratio, self.cell_outplane_ratio
        for own_in, own_out in cuts:
            cut = (
                own_in if given_in is None else given_in,
                own_out if given_out is None else given_out,
            )
            try:
                cell = cell_shape(kernels, *cut, not large(modules))
                return cut, shelves(kernels, cell, self.cell_num_ratio)
            except ValueError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _sizes(self, modules: Modules, places: tuple[Shelf, ...]) -> tuple[int, int]:
        """Return how many parameters cells and attentions have, the latter without a basis."""
        num_cells = sum(place.num_cells for place in places)
        cell = math.prod(places[0].kernel) // places[0].mixtures
        attentions = 0
        for module, place in zip(modules.values(), places, strict=True):
            channels: Any = (
                module.in_features if isinstance(module, nn.Linear) else module.in_channels
            )
            hidden = max(int(channels * self.reduction), 16)
            attentions += hidden * (channels + place.mixtures * (num_cells + 1))
        return num_cells * cell, attentions


def large(modules: Modules) -> bool:
    """Return whether kernels (of which a group's are all, or none) have very many positions."""
    return math.prod(kernel_of(next(iter(modules.values())))[2:]) > _MAX_POSITIONS


def _halves(modules: Modules) -> list[Modules]:
    items, middle = list(modules.items()), len(modules) // 2
    return [dict(items[:middle]), dict(items[middle:])]
