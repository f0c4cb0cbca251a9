"""Table files `configs/tables/<id>.yaml`: published numbers and the configs that reproduce them.

A published number is typed once, here. `null` is an empty cell: no published number was found.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compose import ConfigError, compose
from experiments.record import row_of

CONFIGS = Path("configs")


@dataclass(frozen=True)
class Column:
    """A column of published numbers.

    Attributes:
        name: Key of the column in every row's values.
        unit: Unit of its numbers (`percent`, `points`, `M`, ...).
        meaning: What is measured, in words.
        better: `higher`, `lower` or None.
    """

    name: str
    unit: str
    meaning: str
    better: str | None


@dataclass(frozen=True)
class RowSpec:
    """A row: what was published, and the config that reproduces it.

    Attributes:
        key: Name of the row in its table.
        label: The row as a reader would name it.
        config: Config file of the row, None if the suite does not reproduce it.
        name: Name of the row's runs (the config's path below `configs/`), None without a config.
        over: Key of the row that its gain is measured over, None for the table's.
        variant: Published facts that tell the row from the others.
        values: Published number of every column; None is an empty cell.
        notes: Remarks on the row.
    """

    key: str
    label: str
    config: Path | None
    name: str | None
    over: str | None
    variant: Mapping[str, Any]
    values: Mapping[str, float | None]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class GainSpec:
    """Gain over one of the rows.

    Attributes:
        over: Key of that row; None if only rows that name one themselves have a gain.
        column: Column of the published gains; None where only the rows themselves were published,
            whose difference the published gain then is.
    """

    over: str | None = None
    column: str | None = None


@dataclass(frozen=True)
class Reproduction:
    """What a run has to say about the table.

    Attributes:
        metric: The run record's metric that is compared.
        complement: Whether the column has one minus the metric: errors, where the metric counts
            what is right.
        quantity: What that is, in words (axis label).
        column: The column of published numbers that its mean over the seeds stands beside.
        runs: Columns of the published single runs, none where only a mean was published.
        gain: The published gain, None if the table has none.
    """

    metric: str
    complement: bool
    quantity: str
    column: str
    runs: tuple[str, ...]
    gain: GainSpec | None


@dataclass(frozen=True)
class TableSpec:
    """A table file, checked.

    Attributes:
        file: Where it was read.
        id: Name of the table, the file's stem.
        title: What the table compares.
        paper: Title, authors, venue, year, and arXiv number where known.
        source: Where the numbers were published.
        dataset: Data set the numbers refer to.
        protocol: Published facts on training and evaluation that the rows share.
        columns: The published columns.
        rows: The rows.
        reproduce: What is compared with them, None if nothing can be.
        notes: Facts that apply to the whole table.
        doubts: Open questions about what was published.
        remarks: Reasons for differences between the published and the reproduced numbers.
    """

    file: Path
    id: str
    title: str
    paper: Mapping[str, Any]
    source: tuple[str, ...]
    dataset: str
    protocol: Mapping[str, Any]
    columns: tuple[Column, ...]
    rows: tuple[RowSpec, ...]
    reproduce: Reproduction | None
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    remarks: tuple[str, ...]

    def column(self, name: str) -> Column:
        """The column called `name`."""
        return next(column for column in self.columns if column.name == name)

    def decimals(self, name: str) -> int:
        """Most decimals of a published number in the column `name`."""
        shown = (repr(row.values[name]) for row in self.rows if row.values[name] is not None)
        return max((len(number.partition(".")[2]) for number in shown), default=0)

    def baseline(self, row: RowSpec) -> RowSpec | None:
        """The row that the gain of `row` is measured over, None if it has none."""
        gain = self.reproduce.gain if self.reproduce else None
        over = row.over or gain.over if gain else None
        if over is None or over == row.key:
            return None
        return next(other for other in self.rows if other.key == over)

    def select(self, keys: Sequence[str] | None) -> tuple[RowSpec, ...]:
        """The rows with these keys that the suite can train; all of them for None.

        Raises:
            ConfigError: The table has no such row, or the row has no config.
        """
        rows = {row.key: row for row in self.rows}
        for key in keys or ():
            if key not in rows:
                raise ConfigError(f"{self.id} has no row {key!r}{_nearest(key, rows)}")
            if rows[key].config is None:
                raise ConfigError(f"{self.file}: row {key} has no config, so it cannot be trained")
        return tuple(row for row in self.rows if row.config and (keys is None or row.key in keys))


def find_tables(configs: Path = CONFIGS) -> list[Path]:
    """The table files below `configs`, by name.

    Raises:
        ConfigError: There is no folder of tables.
    """
    folder = configs / "tables"
    if not folder.is_dir():
        raise ConfigError(f"no folder {folder} here; run this in the repository's root folder")
    return sorted(folder.glob("*.yaml"))


def load_table(name: str, configs: Path = CONFIGS) -> TableSpec:
    """Read and check the table `name`.

    Raises:
        ConfigError: There is no such table, or its file is wrong.
    """
    files = {file.stem: file for file in find_tables(configs)}
    if name not in files:
        near = _nearest(name, files) or "; `table list` shows all"
        raise ConfigError(f"no table is called {name!r}{near}")
    return read_table(files[name], configs)


def read_table(file: Path, configs: Path = CONFIGS) -> TableSpec:
    """Read and check one table file.

    Args:
        file: The table file.
        configs: Folder that the rows' configs are relative to.

    Raises:
        ConfigError: The file is wrong; names the file and the key.
    """
    content = compose([file]).declared
    where = f"{file}: "
    required = ("id", "title", "paper", "source", "dataset", "protocol", "columns", "rows")
    optional = ("network", "reproduce", "notes", "doubts", "remarks")
    _check_keys(content, where, required, optional)
    if content["id"] != file.stem:
        raise ConfigError(f"{where}id is {content['id']!r}, but the file's name says {file.stem}")
    columns = tuple(_column(part, where) for part in _list(content, "columns", where))
    _check_unique((column.name for column in columns), f"{where}two columns are called")
    rows = tuple(_row(part, columns, configs, where) for part in _list(content, "rows", where))
    _check_unique((row.key for row in rows), f"{where}two rows have the key")
    return TableSpec(
        file=file,
        id=content["id"],
        title=str(content["title"]),
        paper=_paper(content["paper"], f"{where}paper: "),
        source=_texts(content, "source", where),
        dataset=str(content["dataset"]),
        protocol=content["protocol"] or {},
        columns=columns,
        rows=rows,
        reproduce=_reproduction(content.get("reproduce"), columns, rows, f"{where}reproduce: "),
        notes=_texts(content, "notes", where),
        doubts=_texts(content, "doubts", where),
        remarks=_texts(content, "remarks", where),
    )


def _paper(content: Any, where: str) -> Mapping[str, Any]:
    _check_keys(content, where, ("title", "authors", "venue", "year"), ("arxiv",))
    paper: Mapping[str, Any] = content
    return paper


def _column(content: Any, where: str) -> Column:
    where += f"column {content.get('name', '?') if isinstance(content, dict) else content}: "
    _check_keys(content, where, ("name", "unit", "meaning", "better"))
    if content["better"] not in ("higher", "lower", None):
        raise ConfigError(f"{where}better is {content['better']!r}; write higher, lower or null")
    return Column(**content)


def _row(content: Any, columns: Sequence[Column], configs: Path, where: str) -> RowSpec:
    where += f"row {content.get('key', '?') if isinstance(content, dict) else content}: "
    _check_keys(content, where, ("key", "label", "config", "values"), ("over", "variant", "notes"))
    values = content["values"]
    names = [column.name for column in columns]
    _check_keys(values, f"{where}values: ", names)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ConfigError(f"{where}values: {name} is {value!r}; write a number or null")
    config = None if content["config"] is None else configs / str(content["config"])
    if config is not None and not config.is_file():
        raise ConfigError(f"{where}config: no file {config}")
    return RowSpec(
        key=str(content["key"]),
        label=str(content["label"]),
        config=config,
        name=None if config is None else row_of(config),
        over=content.get("over"),
        variant=content.get("variant") or {},
        values=values,
        notes=_texts(content, "notes", where),
    )


def _reproduction(
    content: Any, columns: Sequence[Column], rows: Sequence[RowSpec], where: str
) -> Reproduction | None:
    if content is None:
        return None
    optional = ("complement", "runs", "gain")
    _check_keys(content, where, ("metric", "quantity", "column"), optional)
    complement = content.get("complement", False)
    if not isinstance(complement, bool):
        raise ConfigError(f"{where}complement is {complement!r}; write true or false")
    gain = content.get("gain")
    if gain is not None:
        _check_keys(gain, f"{where}gain: ", (), ("over", "column"))
        gain = GainSpec(**gain)
    runs = tuple(content.get("runs") or ())
    names = [column.name for column in columns]
    for name in (content["column"], *runs, *([gain.column] if gain and gain.column else [])):
        if name not in names:
            raise ConfigError(f"{where}there is no column {name!r}{_nearest(name, names)}")
    _check_baselines(rows, gain, where)
    return Reproduction(
        metric=str(content["metric"]),
        complement=complement,
        quantity=str(content["quantity"]),
        column=content["column"],
        runs=runs,
        gain=gain,
    )


def _check_baselines(rows: Sequence[RowSpec], gain: GainSpec | None, where: str) -> None:
    """Every row that a gain is measured over is there, and a gain is measured over some row."""
    keys = [row.key for row in rows]
    named = {f"row {row.key}: over": row.over for row in rows if row.over}
    if gain is None:
        if named:
            raise ConfigError(f"{where}{next(iter(named))} needs `gain:`, which says what it is")
        return
    if gain.over:
        named["gain: over"] = gain.over
    if not named:
        raise ConfigError(f"{where}gain: `over` says over which row, here or in the rows")
    for place, over in named.items():
        if over not in keys:
            raise ConfigError(f"{where}{place}: there is no row {over!r}{_nearest(over, keys)}")


def _check_keys(
    content: Any, where: str, required: Collection[str], optional: Collection[str] = ()
) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}{content!r} stands where `key: value` lines belong")
    known = [*required, *optional]
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}there is no key {key!r}{_nearest(str(key), known)}")
    for key in required:
        if key not in content:
            raise ConfigError(f"{where}the key {key!r} is missing; null is an empty cell")


def _check_unique(names: Iterable[str], complaint: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"{complaint} {name}")
        seen.add(name)


def _list(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    value = content.get(key) or []
    if not isinstance(value, list):
        raise ConfigError(f"{where}{key} is {value!r}; write a list")
    return value


def _texts(content: Mapping[str, Any], key: str, where: str) -> tuple[str, ...]:
    texts = _list(content, key, where)
    for text in texts:
        if not isinstance(text, str):
            raise ConfigError(f"{where}{key}: {text!r} is no text; put it in quotes")
    return tuple(texts)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
