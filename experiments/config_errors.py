"""Says a parser's complaint in one line: the key, the file it came from, the nearest valid name."""

import dataclasses
import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Iterable
from inspect import get_annotations
from typing import Any

from experiments.compose import ConfigError

Place = Callable[[str], str | None]

_UNKNOWN_FLAG = re.compile(r"unrecognized arguments: --?(?P<key>[^\s=]+)")
_UNKNOWN_IN_GROUP = re.compile(
    r"Group '(?P<group>[\w.]+)' does not accept option '(?P<option>[\w.]+)'"
)
_UNKNOWN_KEY = re.compile(r"does not accept option '(?P<key>[^']+)'")
_PARSER_KEY = re.compile(r'Parser key "(?P<key>[^"]+)":')
_CLASS = re.compile(r"Problem with given class_path '(?P<name>[^']+)'")
_UNKNOWN_OPTION = re.compile(r"Option '(?P<key>[^']+)' is not accepted")
_WRONG_VALUE = re.compile(
    r'Parser key "(?P<key>[^"]+)":\s+Expected (?:an? )?(?P<type>.+?)\. Got value: (?P<value>.*)'
)
_NO_CLASS = re.compile(
    r"module '(?P<module>[\w.]+)' has no attribute '(?P<name>\w+)'"
    r"|Expected a dot import path string: (?P<short>\S+)"
    r"|No module named '(?P<missing>[\w.]+)'"
)
_EXPECTED = re.compile(r"Expected (?:an? )?<class '(?P<type>\w+)'>")


def explain(message: str, place: Place, valid: Iterable[str]) -> ConfigError:
    """Return the error to show for a parser's `message`.

    Args:
        message: What the parser said, many lines as a rule.
        place: Says where a dotted key was set, None if nowhere.
        valid: Every key that the command's parser knows, dotted.
    """
    valid = list(valid)
    if match := _UNKNOWN_FLAG.search(message):
        return ConfigError(f"--{match['key']} is no option{_nearest(match['key'], valid)}")
    if "arguments are required" in message:
        return ConfigError(
            "nothing to run was named; give --config FILE (they lie in configs/), or --model and "
            "--data with a class_path each"
        )
    inside = _PARSER_KEY.search(message)
    if not inside and (match := _UNKNOWN_KEY.search(message)):
        key = match["key"]
        near = _nearest(key, valid)
        return ConfigError(f"{_at(place, key)}no option is called {key}{near}")
    if inside:
        return _explain_value(inside["key"], message, place)
    return ConfigError(" ".join(message.split()))


def _explain_value(key: str, message: str, place: Place) -> ConfigError:
    owner = _CLASS.search(message)
    if owner and (match := _UNKNOWN_IN_GROUP.search(message)):
        group, option = match["group"], match["option"]
        full = f"{key}.init_args.{group}.{option}"
        near = _nearest(option, _options_of_group(owner["name"], group))
        return ConfigError(f"{_at(place, full)}no option of {group} is called {option}{near}")
    if match := _UNKNOWN_OPTION.search(message):
        option = match["key"].split(".")[0]
        full = f"{key}.init_args.{option}"
        of = f" of {owner['name'].rsplit('.', 1)[-1]}" if owner else ""
        near = _nearest(option, _options_of(owner["name"]) if owner else [])
        return ConfigError(f"{_at(place, full)}no option{of} is called {option}{near}")
    if match := _NO_CLASS.search(message):
        name = match["name"] or match["short"] or match["missing"]
        where = _at(place, f"{key}.class_path")
        near = _nearest(name, _classes_beside(owner["name"] if owner else name))
        return ConfigError(f"{where}{key} names no class that exists: {name}{near}")
    if owner and (match := _WRONG_VALUE.search(message)):
        full = f"{key}.init_args.{match['key']}"
        given = match["value"].strip().splitlines()[0]
        return ConfigError(f"{_at(place, full)}{full} is {given}; {_type(match['type'])}")
    given = re.search(r"Given value: (.*)", message)
    types = [match["type"] for match in _EXPECTED.finditer(message) if match["type"] != "NoneType"]
    if given and types:
        expected = " or ".join(dict.fromkeys(types))
        return ConfigError(f"{_at(place, key)}{key} is {given[1]}; expected {expected}")
    return ConfigError(_at(place, key) + " ".join(message.split()))


def _type(text: str) -> str:
    return "expected " + text.replace("<class '", "").replace("'>", "")


def _at(place: Place, key: str) -> str:
    found = place(key)
    while not found and "." in key:
        key = key.rpartition(".")[0]
        found = place(key)
    return f"{found}: " if found else ""


def _nearest(name: str, valid: Iterable[str]) -> str:
    candidates = list(valid)
    near = difflib.get_close_matches(name, candidates, n=1)
    if not near:
        # A long common prefix must not drown the typo: compare the last part alone, too.
        by_last = {candidate.rsplit(".", 1)[-1]: candidate for candidate in candidates}
        near = [
            by_last[n] for n in difflib.get_close_matches(name.rsplit(".", 1)[-1], by_last, n=1)
        ]
    return f"; did you mean {near[0]}?" if near else ""


def _options_of(class_path: str) -> list[str]:
    cls = _import(class_path)
    bases = inspect.getmro(cls) if inspect.isclass(cls) else []
    names: dict[str, None] = {}
    for base in bases:
        if "__init__" in vars(base):
            names.update(dict.fromkeys(inspect.signature(vars(base)["__init__"]).parameters))
    return [name for name in names if name not in ("self", "args", "kwargs")]


def _options_of_group(class_path: str, group: str) -> list[str]:
    cls = _import(class_path)
    for base in inspect.getmro(cls) if inspect.isclass(cls) else []:
        settings = get_annotations(vars(base).get("__init__", base)).get(group)
        if dataclasses.is_dataclass(settings):
            return [field.name for field in dataclasses.fields(settings)]
    return []


def _classes_beside(class_path: str) -> list[str]:
    found: list[str] = []
    modules = [class_path.rpartition(".")[0], "lit_models", "datamodules", "callbacks"]
    for module in [*filter(None, modules), "lightning.pytorch.callbacks"]:
        try:
            found += getattr(importlib.import_module(module), "__all__", [])
        except ImportError:
            continue
    return found


def _import(class_path: str) -> Any:
    module, _, name = class_path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
