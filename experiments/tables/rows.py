"""Which runs count for a row, and in words why the others do not."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments.arguments import read_arguments
from experiments.compose import ConfigError, merge
from experiments.record import RunRecord, find_runs
from experiments.tables.spec import RowSpec

# Options that may differ from the row's config: where a run lies, reads and computes, and what is
# shown of it (all that the files of configs/scale set, precision aside). The device count is among
# them because it is the machine's, not the config's: `auto` is another number elsewhere. It and the
# thread count are columns of the report's runs.csv.
IMMATERIAL = (
    "seed_everything",
    "data.init_args.root",
    "data.init_args.download",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.benchmark",
    "histograms",
    "model.init_args.channels_last",
    "model.init_args.compile",
    "published_batch",
    "keep_published_batch",  # `reasons_against` looks at the batch that came of it
    "threads",
    "wandb",
    "runs",
    "ckpt_path",  # `reasons_against` looks whose checkpoint it is
)
_UNSET = object()
# What the errors of `experiments.errors` say of runs that only the machine has stopped.
_GOES_ON = ("--ckpt_path last", "another process of this run has ended")


@dataclass(frozen=True)
class LeftOut:
    """A run that does not count, and the reasons."""

    record: RunRecord
    reasons: tuple[str, ...]

    @property
    def why(self) -> str:
        """The reasons in one line, the first three of them."""
        more = f", and {len(self.reasons) - 3} more" if len(self.reasons) > 3 else ""
        return ", ".join(self.reasons[:3]) + more

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint to go on from, None if the run is not one to be resumed.

        That is a run which was stopped from outside and lacks nothing but its end. What has failed
        by itself would fail again, unless it says that it can go on.
        """
        if len(self.reasons) > 1:
            return None
        why = str(self.record.facts.get("why"))
        stopped = self.record.state in ("interrupted", "killed")
        goes_on = self.record.state == "failed" and any(text in why for text in _GOES_ON)
        return self.record.last_checkpoint if stopped or goes_on else None

    @property
    def under_way(self) -> bool:
        """Whether it will count once it has finished, as far as can be said."""
        return self.reasons == ("running",)


@dataclass(frozen=True)
class RowRuns:
    """What has been run of a row.

    Attributes:
        row: The row.
        declared: What the row's config says, with the recipe and the options that were asked for.
        first_seed: Seed in it.
        counted: The run that counts for each seed.
        left_out: The other runs that trained this row, newest first.
    """

    row: RowSpec
    declared: Mapping[str, Any]
    first_seed: int
    counted: dict[int, RunRecord]
    left_out: tuple[LeftOut, ...]


def gather_runs(
    row: RowSpec,
    runs: Path,
    metric: str | None = None,
    recipe: Path | None = None,
    options: Sequence[str] = (),
) -> RowRuns:
    """Sort a row's runs into those that count and the others.

    Of several runs with one seed that would count, the newest does. Under another recipe other runs
    count: those whose configuration is the row's with the recipe above it, however they were asked
    for. So no run counts both for the row as published and under a recipe that changes it.

    Args:
        row: A row that has a config.
        runs: Folder of all runs.
        metric: The metric that a run must have been tested for, None for any.
        recipe: A config file above the row's, None for the row as it is.
        options: Options of `fit` above both.

    Raises:
        ConfigError: The row's config or the recipe is wrong.
    """
    assert row.name is not None
    declared = declared_by(row, recipe, options)
    counted: dict[int, RunRecord] = {}
    left_out = []
    for record in find_runs(runs, row.name):
        if record.facts.get("command") != "fit":
            continue
        reasons = reasons_against(record, declared, metric)
        if not reasons and record.seed in counted:
            reasons = [f"a newer run has seed {record.seed}"]
        if reasons:
            left_out.append(LeftOut(record, tuple(reasons)))
        else:
            assert record.seed is not None
            counted[record.seed] = record
    first_seed = declared.get("seed_everything", 0)
    if isinstance(first_seed, bool) or not isinstance(first_seed, int):
        raise ConfigError(f"{row.config}: seed_everything is {first_seed!r}; write a number")
    return RowRuns(row, declared, first_seed, dict(sorted(counted.items())), tuple(left_out))


def declared_by(
    row: RowSpec, recipe: Path | None = None, options: Sequence[str] = ()
) -> dict[str, Any]:
    """What a row's config says now, with a recipe and then options of `fit` above it.

    Raises:
        ConfigError: The row's config or the recipe is wrong.
    """
    assert row.config is not None
    above = [] if recipe is None else ["--recipe", str(recipe)]
    read = read_arguments(["fit", "--config", str(row.config), *above, *options])
    return asked_for(read.composition.declared, read.overrides)


def reasons_against(
    record: RunRecord, declared: Mapping[str, Any], metric: str | None = None
) -> list[str]:
    """Why a run does not count for a row, in words; empty if it counts.

    A run counts if it trained (`fit`) to the end from the configuration that the row has now. Its
    command line may have changed what does not matter (`IMMATERIAL`) and nothing else.

    Args:
        record: The run.
        declared: The row's config, composed as it is now.
        metric: The metric that the run must have been tested for, None for any.
    """
    reasons = []
    if record.facts.get("command") != "fit":
        reasons.append(f"was {record.facts.get('command')}, not fit")
    if record.state != "finished":
        why = record.facts.get("why")
        reasons.append(f"{record.state}: {why}" if why else record.state)
    if record.seed is None:
        reasons.append("has no seed")
    reasons += changes(record.declared, record.overrides, declared)
    for earlier in record.facts.get("earlier_configs", []):
        before = changes(earlier.get("declared", {}), earlier.get("overrides", []), declared)
        reasons += [f"before it was resumed, {change}" for change in before]
    batch = record.facts.get("batch") or {}
    # The row's word comes before that of the run's command line.
    published = declared.get("published_batch") or batch.get("published")
    if batch and published and batch["global"] != published:
        reasons.append(f"a step had {batch['global']} images, as published it has {published}")
    if _continues_another_run(record):
        reasons.append("started from another run's checkpoint")
    if not reasons and metric is not None:
        value = metric_of(record, metric)
        if value is None:
            reasons.append(f"{metric} is not in its record")
        elif not math.isfinite(value):
            reasons.append(f"{metric} is {value}")
    return reasons


def changes(
    recorded: Mapping[str, Any], overrides: Sequence[str], declared: Mapping[str, Any]
) -> list[str]:
    """What mattered in a configuration that was run and is different in the row's config now.

    Args:
        recorded: What the run's config files said.
        overrides: `key=value` of its command line.
        declared: The row's config as it is now.
    """
    before, now = material(asked_for(recorded, overrides)), material(declared)
    return [
        f"{key} was {_shown(before, key)}, now {_shown(now, key)}"
        for key in dict.fromkeys([*before, *now])
        if before.get(key, _UNSET) != now.get(key, _UNSET)
    ]


def material(declared: Mapping[str, Any]) -> dict[str, Any]:
    """What matters in a configuration, by dotted key."""
    return {key: value for key, value in _leaves(declared) if not _is_immaterial(key)}


def asked_for(declared: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """What a run was asked for: its declared config with the `key=value` of its command line."""
    asked = dict(declared)
    for override in overrides:
        asked = _with(asked, *_parsed(override))
    return asked


def digest(declared: Mapping[str, Any]) -> str:
    """SHA-256 of what matters in a configuration."""
    text = json.dumps(material(declared), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def metric_of(record: RunRecord, metric: str) -> float | None:
    """A run's metric as recorded: of the test, else of the last epoch; None if it has none."""
    metrics = record.facts.get("metrics", {})
    value = metrics.get("test", {}).get(metric, metrics.get("last", {}).get(metric))
    return None if value is None else float(value)


def _parsed(override: str) -> tuple[list[str], Any]:
    """`a.b=1` as `["a", "b"]` and 1, in the long form that config files use."""
    key, _, text = override.partition("=")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    parts = key.split(".")
    if parts[0] in ("model", "data"):
        if len(parts) == 1 and isinstance(value, str):
            parts.append("class_path")
        elif len(parts) > 1 and parts[1] not in ("class_path", "init_args"):
            parts.insert(1, "init_args")
    return parts, value


def _with(tree: Mapping[str, Any], keys: Sequence[str], value: Any) -> dict[str, Any]:
    """The tree with a value in place of what it has there; `key+` appends to a list."""
    key, *rest = keys
    below = tree.get(key)
    if rest:
        return {**tree, key: _with(below if isinstance(below, Mapping) else {}, rest, value)}
    if key.endswith("+"):
        return merge(tree, {key: value if isinstance(value, list) else [value]})
    return {**tree, key: value}


def _leaves(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _is_immaterial(key: str) -> bool:
    return any(key == option or key.startswith(f"{option}.") for option in IMMATERIAL)


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    if key not in leaves:
        return "not set"
    text = str(leaves[key])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _continues_another_run(record: RunRecord) -> bool:
    parts = [(record.declared, record.overrides)]
    for earlier in record.facts.get("earlier_configs", []):
        parts.append((earlier.get("declared", {}), earlier.get("overrides", [])))
    paths = (asked_for(*part).get("ckpt_path") for part in parts)
    # By the name of its folder, which no other run has: the folder may lie elsewhere by now.
    return any(
        Path(str(path)).resolve().parent.parent.name != record.folder.name
        for path in paths
        if path not in ("last", None)
    )
