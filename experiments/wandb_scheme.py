"""What every run is called in W&B, and what is said about it: one scheme for all of them.

Group is the table, name the row with its seed; tags are family, backbone and seed. The config is
the declared one, and a few keys that dashboards filter and group by. The summary has the published
numbers as `published/<column>`, and in the end the facts of `run.json`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from experiments.compose import ConfigError, compose
from experiments.tables.places import Place, find_places
from experiments.tables.rows import asked_for, changes

# The W&B project, unless the environment variable WANDB_PROJECT names another.
PROJECT = "convsuite"

# As long as W&B lets a tag be.
_LONGEST_TAG = 64
_FACTS = ("multiply_adds", "epochs", "steps", "training_seconds", "images_per_second")


@dataclass(frozen=True)
class TrainedRow:
    """What a run trains.

    Attributes:
        row: Name of the row: its config's path below `configs` without `.yaml`.
        seed: The run's seed.
        backbone: Name of the network.
        declared: What the config files say.
        overrides: What the command line changes, as `key=value`.
    """

    row: str
    seed: int | None
    backbone: str
    declared: Mapping[str, Any]
    overrides: Sequence[str]


@dataclass(frozen=True)
class WandbIdentity:
    """A run as W&B shows it.

    Attributes:
        group: The table, or the row's folder if it stands in none.
        name: The row's key in its table, or its file's name, and the seed.
        tags: Family, backbone, seed; `changed` if the run is not the row as its config has it.
        config: The declared config with the command line's changes, and `row`, `table`, `label`,
            `family`, `backbone`, `seed` and `changed`.
        published: The published numbers of the row, for the summary.
        lines: The published number that charts show beside the metric it is compared with.
    """

    group: str | None
    name: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    published: dict[str, float]
    lines: dict[str, float]


def identify(run: TrainedRow) -> WandbIdentity:
    """Find the run's table and say what it is called.

    A table that cannot be read is said, and is no reason not to train.
    """
    try:
        places = find_places(run.row)
        place = places[0] if places else None
        changed = place is not None and bool(_changes(run, place))
    except ConfigError as error:
        print(f"{error}; W&B groups this run by its folder")
        place, changed = None, False
    folder, _, stem = run.row.rpartition("/")
    family = folder.split("/")[0]
    tags = (family, run.backbone, f"seed{run.seed}", "changed" if changed else "")
    known = {
        "row": run.row,
        "table": place.table.id if place else None,
        "label": place.row.label if place else stem,
        "family": family,
        "backbone": run.backbone,
        "seed": run.seed,
        "changed": changed,
    }
    return WandbIdentity(
        group=place.table.id if place else folder or None,
        name=f"{place.row.key if place else stem}-seed{run.seed}",
        tags=tuple(dict.fromkeys(tag[:_LONGEST_TAG] for tag in tags if tag)),
        config={**asked_for(run.declared, run.overrides), **known},
        published=_published(place) if place and not changed else {},
        lines=_lines(place) if place and not changed else {},
    )


def summary_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary says of a run record's facts.

    Args:
        facts: The facts of `run.json`.
    """
    metrics = facts.get("metrics", {})
    return {
        **{f"parameters/{name}": count for name, count in facts.get("parameters", {}).items()},
        **{name: facts[name] for name in _FACTS if name in facts},
        **{f"best/{name}": value for name, value in metrics.get("best", {}).items()},
        **metrics.get("test", {}),
    }


def _changes(run: TrainedRow, place: Place) -> list[str]:
    assert place.row.config is not None
    return changes(run.declared, run.overrides, compose([place.row.config]).declared)


def _published(place: Place) -> dict[str, float]:
    values = place.row.values.items()
    return {f"published/{name}": value for name, value in values if value is not None}


def _lines(place: Place) -> dict[str, float]:
    return {f"published/{name}": value for name, value in place.published_metric.items()}
