"""Where a row stands: the tables that name its config."""

from pathlib import Path
from typing import NamedTuple

from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.table_files import CONFIGS, find_tables, read_table


class Place(NamedTuple):
    """A row of a table."""

    table: TableSpec
    row: RowSpec

    @property
    def published_metric(self) -> dict[str, float]:
        """The published number as the metric that runs are compared by; empty without one."""
        reproduce = self.table.reproduce
        value = self.row.values[reproduce.column] if reproduce else None
        if reproduce is None or value is None:
            return {}
        value /= self.table.column(reproduce.column).scale
        return {reproduce.metric: 1.0 - value if reproduce.complement else value}


def find_places(row: str, configs: Path = CONFIGS) -> list[Place]:
    """The places of a row, those first whose numbers its runs reproduce.

    Every run asks for its own, so only the tables that mention the row's config are parsed.

    Args:
        row: Name of a row: its config's path below `configs` without `.yaml`.
        configs: Folder of the configs; where it has no tables, the row has no place.

    Raises:
        ConfigError: A table that mentions the row is wrong.
    """
    if not (configs / "tables").is_dir():
        return []
    mentioning = [file for file in find_tables(configs) if f"{row}.yaml" in file.read_text("utf-8")]
    places = [
        Place(table, place)
        for table in (read_table(file, configs) for file in mentioning)
        for place in table.rows
        if place.name == row
    ]
    return sorted(places, key=lambda place: place.table.reproduce is None)
