"""Config composition: a file's `base:` list is merged under it, file by file.

Dictionaries merge, lists and scalars are replaced, and a key that ends in `+` appends its list to
the one below it. The result is one plain dictionary, which is what the parser sees and what the run
record keeps, so there is one answer to "what was asked for".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml


class ConfigError(ValueError):
    """A config that cannot be used; the message is one line for the reader of the terminal."""


@dataclass(frozen=True)
class ConfigFile:
    """One YAML file of a composition, without its `base:` list."""

    path: Path
    text: str
    content: dict[str, Any]

    def line_of(self, keys: Sequence[str]) -> int | None:
        """Line (from 1) at which the nested key `keys` stands in this file, None if it does not."""
        node = yaml.compose(self.text, Loader=yaml.SafeLoader)
        line = None
        for key in keys:
            if not isinstance(node, yaml.MappingNode):
                return None
            for name, value in node.value:
                if name.value.rstrip("+") == key:
                    line, node = name.start_mark.line + 1, value
                    break
            else:
                return None
        return line


@dataclass(frozen=True)
class Composition:
    """The files behind a configuration, lowest first."""

    files: tuple[ConfigFile, ...]

    @cached_property
    def declared(self) -> dict[str, Any]:
        """What the files say, merged."""
        merged: dict[str, Any] = {}
        for file in self.files:
            merged = merge(merged, file.content)
        return merged

    def locate(self, keys: Sequence[str]) -> str | None:
        """`file:line` of the last file that sets the nested key `keys`, None if none does."""
        for file in reversed(self.files):
            line = file.line_of(keys)
            if line is not None:
                return f"{file.path}:{line}"
        return None


def compose(paths: Iterable[str | Path]) -> Composition:
    """Read config files and, under each of them, the files of its `base:` list.

    Args:
        paths: Config files, a later one above an earlier one.

    Raises:
        ConfigError: A file is missing, is no YAML mapping, or is its own base.
    """
    files: list[ConfigFile] = []
    for path in paths:
        files += _read_with_base(Path(path), ())
    return Composition(tuple(files))


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return `below` with `above` merged over it (see the module's rules)."""
    merged = dict(below)
    for key, value in above.items():
        if key.endswith("+"):
            name = key[:-1]
            merged[name] = [*(merged.get(name) or []), *value]
        elif isinstance(value, Mapping):
            lower = merged.get(key)
            merged[key] = merge(lower if isinstance(lower, Mapping) else {}, value)
        else:
            merged[key] = value
    return merged


def _read_with_base(path: Path, asked_by: tuple[Path, ...]) -> list[ConfigFile]:
    source = f" (base of {asked_by[-1]})" if asked_by else ""
    if path.resolve() in (parent.resolve() for parent in asked_by):
        raise ConfigError(f"{path} is its own base{source}; take it out of the `base:` list")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no config file {path}{source}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read config file {path}{source}: {error}") from None
    content = _parse(path, text)
    bases = content.pop("base", None) or []
    if not isinstance(bases, list):
        bases = [bases]
    files: list[ConfigFile] = []
    for base in bases:
        files += _read_with_base(path.parent / str(base), (*asked_by, path))
    return [*files, ConfigFile(path, text, content)]


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where} is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds a {type(content).__name__}, not `key: value` lines")
    return content
