"""Published costs against computed ones: parameters, multiply-adds, and what definitions give."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.static import StaticColumns

# Units of published costs, and how many of what is counted they are.
SCALES = {"M": 1e6, "G": 1e9, "GMAC": 1e9, "count": 1.0}


class Agreement(NamedTuple):
    """A published number beside the computed one, in the unit of its column.

    Attributes:
        column: The column.
        published: The number as published.
        computed: The number as computed.
        agrees: Whether they are one, in the decimals that were published.
        otherwise: Why they are known to differ, None if they should agree.
    """

    column: str
    published: float
    computed: float
    agrees: bool
    otherwise: str | None

    @property
    def as_stated(self) -> bool:
        """Whether it is as the table says: an exception that is none is one too many."""
        return self.agrees == (self.otherwise is None)


def cost_of_column(name: str) -> str | None:
    """The field of `StaticColumns` that a column publishes, None for any other column.

    Papers count the parameters that are trained, and the multiply-adds of what is deployed.
    """
    return {"params": "training", "flops": "multiply_adds", "mult_adds": "multiply_adds"}.get(name)


def agreements(
    table: TableSpec, row: RowSpec, costs: StaticColumns | None, defined: Mapping[str, float]
) -> Iterator[Agreement]:
    """Hold a row's published costs against the computed ones.

    Args:
        table: The row's table.
        row: The row.
        costs: What its network costs, None for a row without a config.
        defined: What definitions give for its columns, in a table of definitions.
    """
    for column in table.columns:
        published = row.values[column.name]
        computed = defined.get(column.name)
        field, scale = cost_of_column(column.name), SCALES.get(column.unit)
        if computed is None and costs and field and scale:
            computed = getattr(costs, field) / scale
        if published is None or computed is None:
            continue
        decimals = len(repr(published).partition(".")[2])
        agrees = round(computed, decimals) == published
        otherwise = row.computed_otherwise.get(column.name)
        yield Agreement(column.name, published, computed, agrees, otherwise)
