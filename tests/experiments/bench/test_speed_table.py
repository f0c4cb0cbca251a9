import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.bench.speed import command
from experiments.bench.speed.item import (
    TUNED,
    Item,
    Measured,
    Target,
    UnavailableError,
    allocator,
)
from experiments.bench.speed.items import all_items
from experiments.bench.speed.table import SpeedLine, as_markdown, read_table, update_table


def made_up(name: str, target: Target, value: float, *, tuned: bool = False) -> Item:
    """An item that measures nothing."""
    targets: dict[Any, Target] = {"default": target} | ({"tuned": target} if tuned else {})
    return Item(
        name,
        "Made up",
        f"what {name} is",
        "something else",
        "times as fast",
        targets,
        lambda rounds: Measured(value * len(list(rounds)) / 7, 0.25, 1.0, value),
    )


def missing(rounds: object) -> Measured:
    raise UnavailableError("no such data set here")


ITEMS = [
    made_up("quick", Target(2.0), 3.0, tuned=True),
    made_up("slow", Target(2.0), 1.0),
    made_up("lean", Target(2.0, at_least=False), 1.5),
]


@pytest.fixture(autouse=True)
def items(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """Made-up items in the place of the real ones, and the default allocator."""
    chosen = list(ITEMS)
    monkeypatch.setattr(command, "all_items", lambda: chosen)
    for name in TUNED:
        monkeypatch.delenv(name, raising=False)
    return chosen


def speed(out: Path, *words: str) -> list[SpeedLine]:
    status = main(["bench", "speed", *words, "--threads", "1", "--out", str(out)])
    assert status == 0
    return read_table(out / "speed.csv")


def test_every_item_says_target_value_and_whether_it_is_reached(tmp_path: Path) -> None:
    lines = speed(tmp_path, "--allocator", "default")
    found = [(line.item, line.target, line.value, line.reached) for line in lines]
    assert found == [
        ("quick", "≥ 2", "3.00", "yes"),
        ("slow", "≥ 2", "1.00", "no"),
        ("lean", "≤ 2", "1.50", "yes"),
    ]
    assert lines[0].command == "python -m experiments bench speed quick --rounds 7 --threads 1"
    text = (tmp_path / "speed.md").read_text()
    for line in lines:
        assert line.title in text
        assert line.command in text


def test_an_item_measured_again_replaces_its_line_in_its_place(tmp_path: Path) -> None:
    speed(tmp_path, "slow", "lean")
    lines = speed(tmp_path, "slow", "--rounds", "14")
    assert [(line.item, line.value) for line in lines] == [("slow", "2.00"), ("lean", "1.50")]
    lines = speed(tmp_path, "quick", "--allocator", "default")
    assert [line.item for line in lines] == ["quick", "slow", "lean"]


def test_what_is_not_here_is_left_out_with_the_reason(
    items: list[Item], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    items.insert(0, replace(ITEMS[1], name="absent", measure=missing))
    lines = speed(tmp_path, "absent", "lean")
    assert [line.item for line in lines] == ["lean"]
    assert "absent is left out: no such data set here" in capsys.readouterr().out


def test_the_tuned_allocator_gets_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[list[str], Mapping[str, str]]] = []

    def run(words: Sequence[str], *, env: Mapping[str, str], check: bool) -> Any:
        started.append((list(words), env))
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(command, "subprocess", SimpleNamespace(run=run))
    speed(tmp_path, "quick", "slow")
    ((words, environment),) = started
    assert words[1:6] == ["-m", "experiments", "bench", "speed", "quick"]
    assert "slow" not in words
    assert TUNED.items() <= environment.items()
    for name, value in TUNED.items():
        monkeypatch.setenv(name, value)
    assert allocator() == "tuned"
    started.clear()
    lines = speed(tmp_path, *words[5:6])
    assert not started
    assert [(line.item, line.allocator) for line in lines[:2]] == [
        ("quick", "default"),
        ("quick", "tuned"),
    ]
    assert lines[1].command.endswith("--allocator tuned")


def test_targets_are_bounds_of_either_kind() -> None:
    assert [Target(2.0).reached(value) for value in (1.9, 2.0, 2.1)] == [False, True, True]
    most = Target(2.0, at_least=False)
    assert [most.reached(value) for value in (1.9, 2.0, 2.1)] == [True, True, False]


def test_items_have_names_of_their_own_and_a_target() -> None:
    names = [item.name for item in all_items()]
    assert len(set(names)) == len(names) > 20
    assert all("default" in item.targets for item in all_items())


def test_the_markdown_has_a_section_for_each_group(tmp_path: Path) -> None:
    first, *_ = speed(tmp_path, "lean")
    other = replace(first, item="other", group="Another group")
    update_table(tmp_path, [other], ["lean", "other"])
    text = as_markdown(read_table(tmp_path / "speed.csv"))
    assert text.index("## Made up") < text.index("## Another group") < text.index("## How it was")
    assert text.count("```") == 2
