"""Table files `configs/tables/<id>.yaml`: finding, reading and checking them.

A published number is typed once, here. `null` is an empty cell: no published number was found, and
`empty` of the row (a reason for each of its columns) or of the column says why.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.compose import ConfigError, compose
from experiments.record import row_of
from experiments.tables.spec import (
    Column,
    Expected,
    GainSpec,
    Reproduction,
    RowSpec,
    TableSpec,
    nearest,
)

CONFIGS = Path("configs")
# What `reproduce:`, and each of its `also:`, may say beside metric, quantity and column.
COMPARED = ("complement", "runs", "gain", "expected")


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
        near = nearest(name, files) or "; `table list` shows all"
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
    optional = ("network", "reproduce", "computed", "notes", "doubts", "remarks")
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
        computed=content.get("computed"),
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
    _check_keys(content, where, ("name", "unit", "meaning", "better"), ("empty",))
    if content["better"] not in ("higher", "lower", None):
        raise ConfigError(f"{where}better is {content['better']!r}; write higher, lower or null")
    _check_reason(content.get("empty", "-"), f"{where}empty")
    return Column(**content)


def _row(content: Any, columns: Sequence[Column], configs: Path, where: str) -> RowSpec:
    where += f"row {content.get('key', '?') if isinstance(content, dict) else content}: "
    optional = ("over", "variant", "expected", "computed_otherwise", "notes", "empty")
    _check_keys(content, where, ("key", "label", "config", "values"), optional)
    values = content["values"]
    names = [column.name for column in columns]
    _check_keys(values, f"{where}values: ", names)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ConfigError(f"{where}values: {name} is {value!r}; write a number or null")
    empty = content.get("empty") or {}
    _check_keys(empty, f"{where}empty: ", (), names)
    for name, reason in empty.items():
        if values[name] is not None:
            raise ConfigError(f"{where}empty: {name} has a number, so it is not empty")
        _check_reason(reason, f"{where}empty: {name}")
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
        expected={
            name: _expected(band, f"{where}expected: {name}: ")
            for name, band in _by_column(content, "expected", names, where).items()
        },
        computed_otherwise=_otherwise(content, names, where),
        notes=_texts(content, "notes", where),
        empty=empty,
    )


def _check_reason(reason: Any, where: str) -> None:
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigError(f"{where} is {reason!r}; say in words why there is no number")


def _by_column(
    content: Mapping[str, Any], key: str, names: Collection[str], where: str
) -> Mapping[str, Any]:
    """The dictionary under `key`, whose keys are columns; empty if it is not there."""
    found: Mapping[str, Any] = content.get(key) or {}
    _check_keys(found, f"{where}{key}: ", (), names)
    return found


def _otherwise(content: Mapping[str, Any], names: Collection[str], where: str) -> Mapping[str, str]:
    reasons = _by_column(content, "computed_otherwise", names, where)
    for name, reason in reasons.items():
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(
                f"{where}computed_otherwise: {name} is {reason!r}; say in words what is computed"
            )
    return reasons


def _expected(content: Any, where: str) -> Expected:
    _check_keys(content, where, ("below", "above"))
    for key, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise ConfigError(f"{where}{key} is {value!r}; write a number, 0 or more")
    return Expected(**content)


def _reproduction(
    content: Any, columns: Sequence[Column], rows: Sequence[RowSpec], where: str
) -> Reproduction | None:
    """What is reproduced; the rows are asked for baselines, so only for the first column."""
    if content is None:
        return None
    _check_keys(content, where, ("metric", "quantity", "column"), (*COMPARED, "also"))
    also = tuple(
        _compared(part, columns, f"{where}also: ") for part in _list(content, "also", where)
    )
    first = {key: value for key, value in content.items() if key != "also"}
    reproduction = replace(_compared(first, columns, where), also=also)
    _check_baselines(rows, reproduction.gain, where)
    _check_unique((one.column for one in (reproduction, *also)), f"{where}two comparisons are with")
    return reproduction


def _compared(content: Any, columns: Sequence[Column], where: str) -> Reproduction:
    _check_keys(content, where, ("metric", "quantity", "column"), COMPARED)
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
            raise ConfigError(f"{where}there is no column {name!r}{nearest(name, names)}")
    expected = content.get("expected")
    return Reproduction(
        metric=str(content["metric"]),
        complement=complement,
        quantity=str(content["quantity"]),
        column=content["column"],
        runs=runs,
        gain=gain,
        expected=None if expected is None else _expected(expected, f"{where}expected: "),
        also=(),
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
            raise ConfigError(f"{where}{place}: there is no row {over!r}{nearest(over, keys)}")


def _check_keys(
    content: Any, where: str, required: Collection[str], optional: Collection[str] = ()
) -> None:
    if not isinstance(content, dict):
        raise ConfigError(f"{where}{content!r} stands where `key: value` lines belong")
    known = [*required, *optional]
    for key in content:
        if key not in known:
            raise ConfigError(f"{where}there is no key {key!r}{nearest(str(key), known)}")
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
