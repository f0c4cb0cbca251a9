"""The command line as it is given: config files composed, everything else an override."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml

from experiments.compose import Composition, compose


class Arguments(NamedTuple):
    """A command line, read but not parsed.

    Attributes:
        command: The subcommand.
        given: The words as typed.
        parsed: What the parser gets: one merged config, then the overrides.
        config_files: The files named by `--config` and `--recipe`.
        recipes: Those named by `--recipe`, which say how a row is trained here and name no row.
        composition: These files and their bases.
        overrides: `key=value` of every other option.
    """

    command: str
    given: list[str]
    parsed: list[str]
    config_files: list[Path]
    recipes: list[Path]
    composition: Composition
    overrides: list[str]

    @property
    def row_file(self) -> Path | None:
        """The config file that names the row: the last one, recipes and `configs/scale/` aside."""
        rows = [f for f in self.config_files if f not in self.recipes and not is_scale(f)]
        return rows[-1] if rows else None

    def place(self, key: str) -> str | None:
        """Where the dotted key was set: on the command line, or at `file:line`; None: nowhere."""
        if any(override.startswith((f"{key}=", f"{key}.")) for override in self.overrides):
            return "command line"
        return self.composition.locate(key.split("."))

    def given_without(self, option: str) -> list[str]:
        """The words as typed, but for an option and its value."""
        command, *words = self.given
        kept = (as_given for flag, _, as_given in _options(words) if flag != option)
        return [command, *(word for as_given in kept for word in as_given)]


def read_arguments(given: Sequence[str]) -> Arguments:
    """Take the config files out of a command line and merge them.

    Without a config, `--ckpt_path` inside a run folder brings that run's own config.

    Raises:
        ConfigError: A config file is missing or wrong.
    """
    command, *words = given
    files: list[Path] = []
    recipes: list[Path] = []
    others: list[str] = []
    overrides: list[str] = []
    for flag, value, as_given in _options(words):
        if flag in ("--config", "-c", "--recipe") and value is not None:
            files.append(Path(value))
            recipes += [Path(value)] if flag == "--recipe" else []
            continue
        others += as_given
        overrides.append(f"{flag.lstrip('-')}={'' if value is None else value}")
    if not files:
        files = _config_of_checkpoint(overrides)
    composition = compose(files)
    merged = ["--config", yaml.safe_dump(composition.declared, sort_keys=False)] if files else []
    parsed = [command, *merged, *others]
    return Arguments(command, list(given), parsed, files, recipes, composition, overrides)


def _options(words: Sequence[str]) -> Iterator[tuple[str, str | None, list[str]]]:
    """Each option's flag, its value (None if it has none) and its words."""
    left = list(words)
    while left:
        word = left.pop(0)
        flag, equals, value = word.partition("=")
        if equals:
            yield flag, value, [word]
        elif word.startswith("-") and left and not left[0].startswith("--"):
            value = left.pop(0)
            yield flag, value, [word, value]
        else:
            yield flag, None, [word]


def is_scale(file: Path) -> bool:
    """Whether a config file says where a run computes, and nothing about what."""
    return file.resolve().parts[-3:-1] == ("configs", "scale")


def _config_of_checkpoint(overrides: Sequence[str]) -> list[Path]:
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "ckpt_path":
            config = Path(value).resolve().parent.parent / "config.yaml"
            return [config] if config.is_file() else []
    return []
