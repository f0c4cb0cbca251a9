"""Columns that need no training: what a row's network costs, computed on the meta device."""

from pathlib import Path
from typing import Any, NamedTuple


class StaticColumns(NamedTuple):
    """Costs of a row's network.

    Attributes:
        training: Parameters of the network that is trained.
        fused: Parameters of the deployed network, operators folded.
        multiply_adds: Forward multiply-adds of the deployed network for one image.
    """

    training: int
    fused: int
    multiply_adds: int


def static_columns(config: Path) -> StaticColumns:
    """Build the network that a row's config describes, without its numbers, and count.

    Raises:
        ConfigError: The config is wrong.
    """
    # torch is imported here: the other table commands do without.
    from experiments.cli import build
    from lit_models.complexity import count_parameters, multiply_adds

    built: tuple[Any, Any] = build([config], device="meta")
    model, data = built
    deployed = model.deployed()
    return StaticColumns(
        training=count_parameters(model.network),
        fused=count_parameters(deployed),
        multiply_adds=multiply_adds(deployed, data.input_size),
    )
