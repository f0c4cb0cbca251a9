"""Columns that need no training: what a row's network costs, computed on the meta device."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from experiments.compose import ConfigError
from experiments.tables.spec import TableSpec

RowValues = Callable[[Mapping[str, Any]], Mapping[str, float]]


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


def defined_values(table: TableSpec) -> dict[str, Mapping[str, float]]:
    """Compute the columns of a table of definitions, in their units: values of each row by its key.

    Empty for a table of results. A row that the definitions do not cover has no values.

    Raises:
        ConfigError: The table's `computed` names no function of lit_models.
    """
    if table.computed is None:
        return {}
    module, _, name = table.computed.rpartition(".")
    if module.split(".")[0] != "lit_models":
        raise ConfigError(f"{table.file}: computed: {table.computed} is not in lit_models")
    try:
        compute: Callable[[Mapping[str, Any]], Mapping[str, float]] = getattr(
            import_module(module), name
        )
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{table.file}: computed: {error}") from error
    return {row.key: compute(row.variant) for row in table.rows}
