"""The file `runs.csv`: a line for each run that counts, and reading such runs back.

A committed report (`results/<table>/runs.csv`) so stands for its runs where their folders are not:
a line counts as long as what matters in its row's config is what it was.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.record import RunRecord
from experiments.tables.rows import declared_by, digest, metric_of
from experiments.tables.spec import RowSpec

FILE_NAME = "runs.csv"
# Columns after row, seed, config and metrics, and before the versions: header, the keys that lead
# to the fact in the run record, and what it is.
FACTS: Mapping[str, tuple[tuple[str, ...], type]] = {
    "epochs": (("epochs",), int),
    "seconds": (("seconds",), float),
    "images_per_second": (("images_per_second",), float),
    "run_id": (("run_id",), str),
    "started": (("started",), str),
    "commit": (("git", "commit"), str),
    "dirty": (("git", "dirty"), bool),
    "cpu": (("hardware", "cpu"), str),
    "cores": (("hardware", "cores"), int),
    "threads": (("hardware", "threads"), int),
    "gpus": (("hardware", "gpus"), list),
    "devices": (("devices", "world_size"), int),
    "precision": (("devices", "precision"), str),
    "batch": (("batch", "global"), int),
    "data": (("data", "name"), str),
    "data_sha256": (("data", "sha256"), str),
    "data_classes": (("data", "classes"), int),
    "data_train": (("data", "train"), int),
    "data_val": (("data", "val"), int),
    "data_test": (("data", "test"), int),
    "parameters_training": (("parameters", "training"), int),
    "parameters_fused": (("parameters", "fused"), int),
    "multiply_adds": (("multiply_adds",), int),
}
LEADING = ("row", "seed", "config_sha256")


class CommittedRun(NamedTuple):
    """A line of the file.

    Attributes:
        row: Key of its row.
        config: Digest of the row's config at that time, empty if unknown.
        record: The run's facts, as far as the file has them; its folder need not be there.
    """

    row: str
    config: str
    record: RunRecord


def config_digest(row: RowSpec, recipe: Path | None = None) -> str:
    """SHA-256 of what matters in a row's config as it is now: equal for runs of one row.

    Raises:
        ConfigError: The config or the recipe is wrong.
    """
    return digest(declared_by(row, recipe))


def write_runs(
    runs: Sequence[tuple[RowSpec, tuple[RunRecord, ...]]],
    file: Path,
    recipe: Path | None = None,
    compared: Sequence[str] = (),
) -> None:
    """Write the runs of every row, facts as recorded; a missing one is empty.

    Args:
        runs: Each row and the runs that count for it.
        file: Where.
        recipe: The recipe above the rows' configs.
        compared: Metrics to write besides those of the test.
    """
    records = [record for _, found in runs for record in found]
    values = {id(record): _metrics(record, compared) for record in records}
    metrics = sorted({name for found in values.values() for name in found})
    packages = list(dict.fromkeys(p for r in records for p in r.facts.get("versions", {})))
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*LEADING, *metrics, *FACTS, *packages])
        for row, found in runs:
            config = config_digest(row, recipe) if found else ""
            for record in found:
                writer.writerow(
                    [
                        *(row.key, record.seed, config),
                        *(values[id(record)].get(name) for name in metrics),
                        *(_cell(record, keys) for keys, _ in FACTS.values()),
                        *(_cell(record, ("versions", package)) for package in packages),
                    ]
                )


def read_runs(file: Path) -> list[CommittedRun]:
    """The runs of a committed report; none if there is no such file.

    Raises:
        ValueError: The file is no table of runs.
    """
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        try:
            return [_committed(line, file.parent) for line in csv.DictReader(stream)]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{file} cannot be read as runs: {error!r}") from error


def fact(record: RunRecord, *keys: str) -> Any:
    """A fact of a run record by the keys that lead to it, None if it lacks it."""
    value: Any = record.facts
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _metrics(record: RunRecord, compared: Sequence[str]) -> dict[str, float]:
    metrics = {name: metric_of(record, name) for name in compared}
    metrics |= record.facts.get("metrics", {}).get("test", {})
    return {name: value for name, value in metrics.items() if value is not None}


def _cell(record: RunRecord, keys: tuple[str, ...]) -> Any:
    value = fact(record, *keys)
    return "; ".join(map(str, value)) if isinstance(value, list) else value


def _committed(line: Mapping[str, str], folder: Path) -> CommittedRun:
    facts: dict[str, Any] = {"command": "fit", "status": "finished", "seed": int(line["seed"])}
    for name, text in line.items():
        if name in LEADING or (not text and name != "gpus"):
            continue
        if name in FACTS:
            keys, kind = FACTS[name]
            *above, last = keys
            place = facts
            for key in above:
                place = place.setdefault(key, {})
            place[last] = _parsed(text, kind)
        elif "/" in name:
            metrics = facts.setdefault("metrics", {}).setdefault("test", {})
            metrics[name] = float(text)
        else:
            facts.setdefault("versions", {})[name] = text
    record = RunRecord(folder / str(facts.get("run_id", "")), facts)
    return CommittedRun(line["row"], line.get("config_sha256", ""), record)


def _parsed(text: str, kind: type) -> Any:
    if kind is bool:
        return text == "True"
    return [part for part in text.split("; ") if part] if kind is list else kind(text)
