"""KernelWarehouse in any backbone: a plan made from the network's own structure."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from lit_models.kernel_warehouse.attention import Norm
from lit_models.kernel_warehouse.observation import Inputs, divide, observe, skeleton
from lit_models.kernel_warehouse.planner import Modules, Planner, large
from lit_models.kernel_warehouse.plans import install, kernel_of, obstacle

Sharing = Literal["stage", "block", "none"]

_RATIOS_BELOW_1 = (1 / 2, 1 / 4, 1 / 8, 1 / 16)


def warehouse_network(
    backbone: nn.Module,
    *,
    cell_num_ratio: float | None = None,
    parameter_ratio: float | None = None,
    sharing: Sharing = "stage",
    reduction: float = 1 / 16,
    cell_inplane_ratio: float | None = None,
    cell_outplane_ratio: float | None = None,
    nonlocal_basis_ratio: float = 1.0,
    norm: Norm | None = None,
    include: Callable[[str, nn.Module], bool] | None = None,
    input_size: tuple[int, ...] | None = None,
) -> nn.Module:
    """Turn a convolutional network or transformer into a KernelWarehouse network, in place.

    Plain convolutions and linear layers that work on many positions of every sample draw from
    warehouses. All others stay static, the classifier among them; why, says the dictionary
    `static_kernels` of the network. Its attribute `plan` is the plan that was made. Within the
    sharing range, convolutions, depthwise convolutions and linear layers do not mix.

    Args:
        backbone: Any network of timm's, or another one that takes images `(N, C, H, W)`.
        cell_num_ratio: Cells per mixture in every warehouse: an integer or 1/n; default 1.
        parameter_ratio: Given instead, the wished number of parameters as a part of the backbone's;
            the network has the cell_num_ratio that comes nearest.
        sharing: Whether the layers of a stage share, those of a block, or none.
        reduction: Hidden width of the attentions as a part of the input channels.
        cell_inplane_ratio: Input channels of a cell as a part of their greatest common divisor.
            None: 1, or at a cell_num_ratio of 1/n what makes the mixtures divide by n, with as
            large cells as possible; the papers have 1/2 for both axes there.
        cell_outplane_ratio: Output channels of a cell, likewise.
        nonlocal_basis_ratio: Below 1, a smaller basis for the attention to other layers' cells.
        norm: Normalisation in the attentions. None: "batch" if the backbone has batch
            normalisation, else "layer".
        include: Called with name and module; where it is false, a layer stays static.
        input_size: `(C, H, W)` of an image, if it is not what timm knows of the backbone.

    Returns:
        The backbone.

    Raises:
        ValueError: If an argument is out of its range or no kernel can be replaced.
    """
    if cell_num_ratio is not None and parameter_ratio is not None:
        raise ValueError("give cell_num_ratio or parameter_ratio, not both")
    if sharing not in ("stage", "block", "none"):
        raise ValueError(f"sharing is {sharing!r}; it must be 'stage', 'block' or 'none'")
    inputs = observe(backbone, input_size)
    static = _static_kernels(backbone, include or (lambda name, module: True), inputs)
    groups = _groups(backbone, sharing, static)
    planner = Planner(
        1 if cell_num_ratio is None else cell_num_ratio,
        cell_inplane_ratio,
        cell_outplane_ratio,
        reduction,
        nonlocal_basis_ratio,
        norm or _norm(backbone),
    )
    if parameter_ratio is not None:
        planner = _nearest(backbone, parameter_ratio, groups, planner)
    plan, uncut = planner.plan(groups)
    if not plan:
        reason = next(iter((uncut | static).values()), "it has none")
        raise ValueError(f"no kernel of {type(backbone).__name__} can be replaced: {reason}")
    network: Any = install(backbone, plan).network
    network.plan = plan
    network.static_kernels = static | uncut
    return backbone


def _static_kernels(
    network: nn.Module, include: Callable[[str, nn.Module], bool], inputs: dict[str, Inputs]
) -> dict[str, str]:
    """Return why a kernel cannot or shall not be replaced, for each such kernel."""
    get_classifier = getattr(network, "get_classifier", None)
    head = get_classifier() if get_classifier else None
    heads = [head] if isinstance(head, nn.Module) else list(head or [])
    classifiers = {module for part in heads for module in part.modules()}
    static: dict[str, str] = {}
    for name, module in network.named_modules():
        if not isinstance(module, _ConvNd | nn.Linear):
            continue
        reason = obstacle(module)
        if module in classifiers:
            reason = "it is the classifier"
        elif not include(name, module):
            reason = "it is not included"
        elif reason is None:
            reason = _misuse(inputs.get(name))
        if reason:
            static[name] = reason
    return static


def _misuse(inputs: Inputs | None) -> str | None:
    """Return what about a layer's inputs forbids a kernel for each sample."""
    if inputs is None:
        return "it is not called, only its weight is used"
    if not inputs.batch_first:
        return "the first axis of its input is not the batch"
    if inputs.positions == 1:
        return "it works on a single vector of each sample"
    return None


def _groups(network: nn.Module, sharing: Sharing, static: dict[str, str]) -> dict[str, Modules]:
    """Return the modules that may share a warehouse, by a name for them."""
    stages, blocks = divide(network)
    groups: dict[str, Modules] = {}
    for name, module in network.named_modules():
        if name in static or not isinstance(module, _ConvNd | nn.Linear):
            continue
        kernel = kernel_of(module)
        kind = type(module).__name__.lower()
        if isinstance(module, _ConvNd) and module.groups > 1:
            kind = f"{'depthwise' if kernel[1] == 1 else 'grouped'}_{kind}"
        if large({name: module}):
            kind += f"_{'x'.join(map(str, kernel[2:]))}"
        place = {"stage": stages, "block": blocks, "none": {}}[sharing].get(name, name)
        groups.setdefault(f"{place}_{kind}", {})[name] = module
    return groups


def _norm(network: nn.Module) -> Norm:
    return "batch" if any(isinstance(m, _BatchNorm) for m in network.modules()) else "layer"


def _nearest(
    network: nn.Module, parameter_ratio: float, groups: dict[str, Modules], planner: Planner
) -> Planner:
    """Return the planner with the cell_num_ratio that comes nearest to a part of the parameters."""
    if parameter_ratio <= 0:
        raise ValueError(f"parameter_ratio is {parameter_ratio}; it must be above 0")
    now = _parameters(network)
    planner = replace(planner, thrifty=True)
    counts: dict[float, int] = {}

    def count(ratio: float) -> int:
        structure = skeleton(network)
        plan, _ = replace(planner, cell_num_ratio=ratio).plan(groups)
        counts[ratio] = _parameters(install(structure, plan).network)
        return counts[ratio]

    wished = parameter_ratio * now
    if wished <= count(1):
        for ratio in _RATIOS_BELOW_1:
            count(ratio)
    else:
        # From 1 on, parameters grow in proportion to the ratio.
        steps = int((wished - counts[1]) / max(count(2) - counts[1], 1))
        for ratio in {1 + steps, 2 + steps} - counts.keys():
            count(ratio)
    nearest = min(counts, key=lambda ratio: abs(counts[ratio] - wished))
    if abs(counts[nearest] - wished) > 0.1 * wished:
        warnings.warn(
            f"parameter_ratio {parameter_ratio} is out of reach: the nearest is "
            f"{counts[nearest] / now:.2f}, with cell_num_ratio {nearest}",
            stacklevel=3,
        )
    return replace(planner, cell_num_ratio=nearest)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
