"""Plans: which module of a network draws from which warehouse, and putting a plan into effect."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lit_models.kernel_warehouse.attention import Norm
from lit_models.kernel_warehouse.layers import (
    KWConv,
    KWConv1d,
    KWConv2d,
    KWConv3d,
    KWLinear,
    kernel_layers,
    numeric_padding,
)
from lit_models.kernel_warehouse.warehouse import Temperature, Warehouse
from lit_models.surgery import Surgery, replace_modules

_OPERATORS: dict[type[nn.Module], type[KWConv]] = {
    nn.Conv1d: KWConv1d,
    nn.Conv2d: KWConv2d,
    nn.Conv3d: KWConv3d,
    nn.Linear: KWLinear,
}


@dataclass(frozen=True)
class WarehousePlan:
    """One warehouse: who draws from it, and how it is cut.

    Attributes:
        name: For messages and tables.
        modules: Dotted names of convolutions and linear layers.
        cell_num_ratio: Cells per mixture: an integer or 1/n.
        cell_inplane_ratio: Input channels of a cell as a part of their greatest common divisor.
        cell_outplane_ratio: Output channels of a cell, likewise.
        reduction: Hidden width of the attentions as a part of the input channels.
        nonlocal_basis_ratio: Below 1, a smaller basis for the attention to other layers' cells.
        spatial_partition: False for cells of whole kernels.
        norm: Normalisation in the attentions, "batch" or "layer".
    """

    name: str
    modules: tuple[str, ...]
    cell_num_ratio: float = 1
    cell_inplane_ratio: float = 1
    cell_outplane_ratio: float = 1
    reduction: float = 1 / 16
    nonlocal_basis_ratio: float = 1
    spatial_partition: bool = True
    norm: Norm = "batch"


Plan = tuple[WarehousePlan, ...]
"""All warehouses of a network in the order in which the authors' code numbers them."""


def make_plan(draws_from: Mapping[str, str], norm: Norm = "batch", **settings: Any) -> Plan:
    """Return the plan in which module `m` draws from the warehouse `draws_from[m]`.

    Warehouses come in the order in which they are first named.

    Args:
        draws_from: Module name to warehouse name; any names.
        norm: Normalisation in all attentions.
        settings: What else `WarehousePlan` takes: one value, or one for each warehouse.

    Raises:
        ValueError: If a sequence has another length than there are warehouses.
    """
    modules: dict[str, list[str]] = {}
    for module, warehouse in draws_from.items():
        modules.setdefault(warehouse, []).append(module)
    columns: dict[str, list[Any]] = {}
    for setting, value in settings.items():
        values = [value] * len(modules) if isinstance(value, int | float) else list(value)
        if len(values) != len(modules):
            raise ValueError(
                f"{setting} has {len(values)} values for {len(modules)} warehouses: "
                f"{', '.join(modules)}"
            )
        columns[setting] = values
    return tuple(
        WarehousePlan(
            name, tuple(names), norm=norm, **{key: column[i] for key, column in columns.items()}
        )
        for i, (name, names) in enumerate(modules.items())
    )


def install(network: nn.Module, plan: Plan) -> Surgery:
    """Put KernelWarehouse layers where the plan says, in place.

    Layers get their own cells in the order of `network.modules()`. All share one temperature, that
    of the KernelWarehouse layers already there if there are any. Biases start at 0.

    Args:
        network: Any network.
        plan: Its warehouses.

    Raises:
        ValueError: If the plan does not fit the network or a kernel cannot be cut as planned.
    """
    modules = dict(network.named_modules())
    chosen = _chosen(plan, modules)
    order = [name for name in modules if name in chosen]
    temperature = next((layer.warehouse.temperature for layer in kernel_layers(network)), None)
    warehouses: dict[str, Warehouse] = {}
    layers: dict[str, nn.Module] = {}
    for name in order:
        entry = chosen[name]
        members = [other for other in order if chosen[other] is entry]
        with torch.device(_weight(modules[name]).device):
            if entry.name not in warehouses:
                kernels = [kernel_of(modules[member]) for member in members]
                warehouses[entry.name] = _build_warehouse(entry, kernels, temperature)
            temperature = warehouses[entry.name].temperature
            layers[name] = _OPERATORS[type(modules[name])].in_place_of(
                modules[name],
                warehouse=warehouses[entry.name],
                position=members.index(name),
                reduction=entry.reduction,
                norm=entry.norm,
                nonlocal_basis_ratio=entry.nonlocal_basis_ratio,
            )
    return replace_modules(network, lambda name, _: name in layers, lambda name, _: layers[name])


def obstacle(module: nn.Module) -> str | None:
    """Return why no KernelWarehouse layer can take the place of `module`, or None if one can."""
    if type(module) not in _OPERATORS:
        return f"it is a {type(module).__name__}, not a plain convolution or linear layer"
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        if module.padding_mode != "zeros":
            return f"it pads with {module.padding_mode!r}, not with zeros"
        if numeric_padding(module) is None:
            return "it pads one side more than the other"
    return None


def kernel_of(module: nn.Module) -> tuple[int, ...]:
    """Return `(out, in / groups, *kernel_size)`; a linear layer is a 1d kernel of size 1."""
    shape = tuple(_weight(module).shape)
    return (*shape, 1) if isinstance(module, nn.Linear) else shape


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight


def _chosen(plan: Plan, modules: Mapping[str, nn.Module]) -> dict[str, WarehousePlan]:
    """Return each chosen module's warehouse, after checking the plan against the network."""
    chosen: dict[str, WarehousePlan] = {}
    for entry in plan:
        for name in entry.modules:
            if name not in modules:
                raise ValueError(f"warehouse {entry.name}: the network has no module {name!r}")
            reason = obstacle(modules[name])
            if reason:
                raise ValueError(f"warehouse {entry.name}: cannot replace {name!r}: {reason}")
            if name in chosen:
                raise ValueError(
                    f"{name!r} is in two warehouses, {chosen[name].name} and {entry.name}"
                )
            chosen[name] = entry
    return chosen


def _build_warehouse(
    entry: WarehousePlan, kernels: list[tuple[int, ...]], temperature: Temperature | None
) -> Warehouse:
    try:
        return Warehouse(
            kernels,
            cell_num_ratio=entry.cell_num_ratio,
            cell_inplane_ratio=entry.cell_inplane_ratio,
            cell_outplane_ratio=entry.cell_outplane_ratio,
            spatial_partition=entry.spatial_partition,
            temperature=temperature,
        )
    except ValueError as error:
        raise ValueError(f"warehouse {entry.name}: {error}") from None
