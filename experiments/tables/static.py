"""Columns that need no training: what a row's network costs, computed on the meta device."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from experiments.compose import ConfigError, compose
from experiments.tables.spec import RowSpec, TableSpec

RowValues = Callable[[Mapping[str, Any]], Mapping[str, float]]


class StaticColumns(NamedTuple):
    """Costs of a row's network.

    Attributes:
        training: Parameters of the network that is trained.
        fused: Parameters of the deployed network, operators folded.
        multiply_adds: Forward multiply-adds of the deployed network for one image; None where its
            images have no one size.
    """

    training: int
    fused: int
    multiply_adds: int | None


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
    size = getattr(data, "input_size", None)
    return StaticColumns(
        training=count_parameters(model.network),
        fused=count_parameters(deployed),
        multiply_adds=multiply_adds(deployed, size) if size else None,
    )


def columns_of_rows(rows: Iterable[RowSpec]) -> Iterator[StaticColumns | None]:
    """Each row's columns, None for a row without a config; equal networks are built once.

    Raises:
        ConfigError: A row's config is wrong.
    """
    known: dict[str, StaticColumns] = {}
    for row in rows:
        if row.config is None:
            yield None
            continue
        declared = compose([row.config]).declared
        network = json.dumps([declared.get("model"), declared.get("data")], default=str)
        if network not in known:
            known[network] = static_columns(row.config)
        yield known[network]


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
