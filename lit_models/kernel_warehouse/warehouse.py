"""The warehouse: the cells that the layers of a network share, and who owns which."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shelf:
    """The place of one layer in its warehouse: how its kernel is cut, and which cells are its own.

    Attributes:
        kernel: `(out, in / groups, *kernel_size)`.
        groups_spatial: Pieces along the spatial axes.
        groups_out: Pieces along the output channels.
        groups_in: Pieces along the input channels.
        first_cell: Index of the first of the layer's own cells.
        num_cells: How many cells are its own.
    """

    kernel: tuple[int, ...]
    groups_spatial: int
    groups_out: int
    groups_in: int
    first_cell: int
    num_cells: int

    @property
    def mixtures(self) -> int:
        """Number of pieces, each of which is a mixture of cells."""
        return self.groups_spatial * self.groups_out * self.groups_in


class Temperature(nn.Module):
    """How much of the initial assignment still stands: 1 while it rules, 0 when it is forgotten.

    One for all layers of a network; a buffer, so it is saved, resumed and copied with the network.
    """

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(()))

    def reset_parameters(self) -> None:
        """Set the temperature to 0, where it is before and after the annealing."""
        nn.init.zeros_(self.value)


class Warehouse(nn.Module):
    """Kernel cells `(n, c_out, c_in, *cell_kernel)` from which layers assemble their kernels.

    A network holds each warehouse once: it is a submodule of the first layer that draws from it,
    and the others only refer to it (`borrow`). So every parameter has one name, and parts of a
    network that are taken out of it keep their cells.

    The shapes follow sections 3.1 and 3.2: cells have the greatest common divisor of the layers'
    channels, times a ratio, and one spatial position (or a whole kernel).

    Args:
        kernels: `(out, in / groups, *kernel_size)` of every layer, in the order of `modules()`.
        cell_num_ratio: Cells per mixture, the paper's budget b: an integer, or 1/n, where every
            kernel's mixtures are a multiple of n.
        cell_inplane_ratio: Input channels of a cell as a part of their greatest common divisor.
        cell_outplane_ratio: Output channels of a cell, likewise.
        spatial_partition: False for cells of whole kernels.
        temperature: That of the network; None for a new one.

    Raises:
        ValueError: If the kernels cannot be cut into such cells.
    """

    temperature: Temperature

    def __init__(
        self,
        kernels: Sequence[tuple[int, ...]],
        *,
        cell_num_ratio: float = 1,
        cell_inplane_ratio: float = 1,
        cell_outplane_ratio: float = 1,
        spatial_partition: bool = True,
        temperature: Temperature | None = None,
    ) -> None:
        super().__init__()
        cell = cell_shape(kernels, cell_inplane_ratio, cell_outplane_ratio, spatial_partition)
        self.shelves = shelves(kernels, cell, cell_num_ratio)
        if temperature is None:
            self.temperature = Temperature()
        else:
            borrow(self, "temperature", temperature)
        num_cells = sum(shelf.num_cells for shelf in self.shelves)
        self.cells = nn.Parameter(torch.empty(num_cells, *cell))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw each layer's own cells, as one stacked kernel, by He's fan-out rule."""
        with torch.no_grad():
            for shelf in self.shelves:
                own = self.cells[shelf.first_cell : shelf.first_cell + shelf.num_cells]
                own.normal_(0, self.deviation(shelf))

    def shelf(self, position: int, kernel: tuple[int, ...]) -> Shelf:
        """Return the place of the layer at a position.

        Raises:
            ValueError: If the warehouse was not made for such a kernel there.
        """
        if not 0 <= position < len(self.shelves):
            raise ValueError(
                f"position {position} is not among the {len(self.shelves)} kernels that the "
                f"warehouse was made for"
            )
        if self.shelves[position].kernel != kernel:
            raise ValueError(
                f"the warehouse was made for a kernel {self.shelves[position].kernel} "
                f"at position {position}, not for {kernel}"
            )
        return self.shelves[position]

    def deviation(self, shelf: Shelf) -> float:
        """Return the standard deviation with which the cells of a shelf are drawn."""
        channels, _, *cell_kernel = self.cells.shape[1:]
        return math.sqrt(2 / (shelf.num_cells * channels * math.prod(cell_kernel)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Apply `fn` to the cells as matrices: they have five axes, but no channels_last order."""

        def apply_flat(cells: Tensor) -> Tensor:
            return fn(cells.flatten(1)).view(cells.shape)

        for child in self.children() if recurse else ():
            child._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(apply_flat, recurse=False)  # type: ignore[no-untyped-call]
        return self

    def extra_repr(self) -> str:
        """Show the shape of the cells and the number of layers."""
        return f"cells={tuple(self.cells.shape)}, layers={len(self.shelves)}"


def borrow(holder: nn.Module, name: str, module: nn.Module) -> None:
    """Make `module` an attribute of `holder` without making it a submodule.

    `copy.deepcopy` and pickling keep the reference; `state_dict`, `parameters` and `to` do not
    follow it, so they meet the module once, where it is owned.
    """
    holder.__dict__[name] = module


def cell_shape(
    kernels: Sequence[tuple[int, ...]],
    cell_inplane_ratio: float,
    cell_outplane_ratio: float,
    spatial_partition: bool,
) -> tuple[int, ...]:
    """Return `(c_out, c_in, *cell_kernel)` of the cells that all kernels can be cut into.

    Raises:
        ValueError: If there is no kernel, a ratio leaves channels over, or cells of whole kernels
            are asked for where kernel sizes differ.
    """
    if not kernels:
        raise ValueError("a warehouse needs at least one kernel")
    axes = {len(kernel) for kernel in kernels}
    if len(axes) > 1:
        raise ValueError("1d, 2d and 3d kernels cannot share a warehouse; give each kind its own")
    size = kernels[0][2:]
    if spatial_partition:
        size = (1,) * len(size)
    elif any(kernel[2:] != size for kernel in kernels):
        sizes = sorted({"x".join(map(str, kernel[2:])) for kernel in kernels})
        raise ValueError(
            f"cells of whole kernels (spatial_partition=False) need one kernel size in a "
            f"warehouse, not {', '.join(sizes)}"
        )
    out_planes = math.gcd(*(kernel[0] for kernel in kernels))
    in_planes = math.gcd(*(kernel[1] for kernel in kernels))
    return (
        _cell_planes(out_planes, cell_outplane_ratio, "cell_outplane_ratio"),
        _cell_planes(in_planes, cell_inplane_ratio, "cell_inplane_ratio"),
        *size,
    )


def _cell_planes(planes: int, ratio: float, name: str) -> int:
    if not 0 < ratio <= 1:
        raise ValueError(f"{name} is {ratio}; it must be above 0 and at most 1")
    # 0.1 * 30 is 3.0000000000000004 in floats, 0.29 * 100 is 28.999999999999996.
    cell_planes = max(int(planes * ratio + 1e-9), 1)
    if planes % cell_planes:
        raise ValueError(
            f"{name} {ratio} makes cells of {cell_planes} channels, which do not partition "
            f"{planes}; use 1/n with n a divisor of {planes}"
        )
    return cell_planes


def shelves(
    kernels: Sequence[tuple[int, ...]], cell: tuple[int, ...], cell_num_ratio: float
) -> tuple[Shelf, ...]:
    """Cut the kernels into cells of the shape `cell` and give each its own cells in turn.

    Raises:
        ValueError: If a kernel's number of mixtures does not go with the ratio.
    """
    places, first_cell = [], 0
    for kernel in kernels:
        spatial = math.prod(kernel[2:]) // math.prod(cell[2:])
        groups_out, groups_in = kernel[0] // cell[0], kernel[1] // cell[1]
        mixtures = spatial * groups_out * groups_in
        num_cells = _own_cells(mixtures, cell_num_ratio, kernel)
        places.append(Shelf(kernel, spatial, groups_out, groups_in, first_cell, num_cells))
        first_cell += num_cells
    return tuple(places)


def _own_cells(mixtures: int, ratio: float, kernel: tuple[int, ...]) -> int:
    """Return how many cells a layer with so many mixtures brings in."""
    if ratio >= 1:
        if ratio != int(ratio):
            raise ValueError(f"cell_num_ratio {ratio}: from 1 on it must be an integer")
        return mixtures * int(ratio)
    mixtures_per_cell = round(1 / ratio) if ratio > 0 else 0
    if mixtures_per_cell == 0 or abs(mixtures_per_cell * ratio - 1) > 1e-6:
        raise ValueError(f"cell_num_ratio {ratio}: below 1 it must be 1/n with an integer n")
    if mixtures % mixtures_per_cell:
        raise ValueError(
            f"cell_num_ratio {ratio} needs {mixtures_per_cell} to divide the {mixtures} mixtures "
            f"of the kernel {kernel}; use smaller cell_inplane_ratio or cell_outplane_ratio"
        )
    return mixtures // mixtures_per_cell
