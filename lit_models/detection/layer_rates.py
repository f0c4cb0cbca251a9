"""Learning rates and weight decay of a detector's parameters, by their layer and name."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from timm.models import group_parameters
from torch import nn

from lit_models.optimization import OptimizerSettings


def parameter_groups(
    detector: nn.Module,
    backbone: nn.Module,
    settings: OptimizerSettings,
    *,
    undecayed: Sequence[str] = (),
    blocks_per_layer: int = 1,
    full_rate: Collection[nn.Parameter] = (),
) -> list[dict[str, Any]]:
    """Group the trained parameters of a detector by weight decay and by layer.

    With a layer decay, the rate of the backbone's last layer is `layer_decay` times that of the
    heads, that of the one before `layer_decay` squared, and so on to the stem.

    Args:
        detector: The whole network.
        backbone: Its part that came from a classification network.
        settings: Weight decay, what is exempt from it, and layer decay.
        undecayed: Parameters whose names hold one of these have no weight decay.
        blocks_per_layer: Blocks of a stage that count as one layer.
        full_rate: Parameters of the backbone that belong to no layer.

    Raises:
        ValueError: Layers are asked for, and timm does not know the backbone's.
    """
    factors: dict[nn.Parameter, float] = {}
    if settings.layer_decay is not None:
        layers = _layers(backbone, blocks_per_layer)
        count = 1 + max(layers.values())
        factors = {
            parameter: settings.layer_decay ** (count - layers[name])
            for name, parameter in backbone.named_parameters()
        }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in detector.named_parameters():
        if not parameter.requires_grad:
            continue
        small = parameter.ndim <= 1 or name.endswith(".bias")
        exempt = small and not settings.decay_norm_and_bias
        exempt = exempt or any(part in name for part in undecayed)
        decay = 0.0 if exempt else settings.weight_decay
        factor = 1.0 if _among(parameter, full_rate) else factors.get(parameter, 1.0)
        groups.setdefault((decay, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": factor}
        for (decay, factor), parameters in groups.items()
    ]


def _layers(backbone: Any, blocks_per_layer: int) -> dict[str, int]:
    """The layer of every parameter of a backbone, by name, from 0 at the stem."""
    if not hasattr(backbone, "group_matcher"):
        raise ValueError(f"timm does not know the layers of {type(backbone).__name__}")
    stages = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    blocks = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    within = {name: (stages[name], blocks[name]) for name in blocks}
    first = {
        stage: min(block for s, block in within.values() if s == stage)
        for stage, _ in within.values()
    }
    lots = {name: (s, (b - first[s]) // blocks_per_layer) for name, (s, b) in within.items()}
    places = {lot: place for place, lot in enumerate(sorted(set(lots.values())))}
    return {name: places[lot] for name, lot in lots.items()}


def _among(parameter: nn.Parameter, some: Iterable[nn.Parameter]) -> bool:
    return any(parameter is one for one in some)
