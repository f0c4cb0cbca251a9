"""All items of the speed table, in its order."""

from experiments.bench.speed import (
    do_conv,
    kernel_warehouse,
    loaders,
    parameter_free,
    whole_runs,
)
from experiments.bench.speed.item import Item


def all_items() -> list[Item]:
    """The items, each once."""
    families = (kernel_warehouse, do_conv, parameter_free, loaders, whole_runs)
    return [item for family in families for item in family.items()]
