from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.compose import ConfigError, compose, merge


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_stands_above_its_base(tmp_path: Path) -> None:
    write(tmp_path / "recipes/long.yaml", "trainer: {max_epochs: 300, precision: bf16}\n")
    row = write(
        tmp_path / "rows/row.yaml", "base: ../recipes/long.yaml\ntrainer: {max_epochs: 5}\n"
    )
    assert compose([row]).declared == {"trainer": {"max_epochs": 5, "precision": "bf16"}}


def test_later_bases_stand_above_earlier_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "x: 1\ny: 1\n")
    write(tmp_path / "b.yaml", "y: 2\n")
    row = write(tmp_path / "row.yaml", "base: [a.yaml, b.yaml]\n")
    assert compose([row]).declared == {"x": 1, "y": 2}


def test_a_base_may_have_bases(tmp_path: Path) -> None:
    write(tmp_path / "deep.yaml", "x: deep\nz: deep\n")
    write(tmp_path / "middle.yaml", "base: deep.yaml\nx: middle\n")
    row = write(tmp_path / "row.yaml", "base: middle.yaml\n")
    assert compose([row]).declared == {"x": "middle", "z": "deep"}


def test_lists_are_replaced_and_plus_appends() -> None:
    below = {"trainer": {"callbacks": ["a"], "plugins": ["p"]}}
    above = {"trainer": {"callbacks+": ["b"], "plugins": ["q"]}}
    assert merge(below, above) == {"trainer": {"callbacks": ["a", "b"], "plugins": ["q"]}}


def test_plus_appends_to_nothing() -> None:
    assert merge({"callbacks": None}, {"callbacks+": ["b"]}) == {"callbacks": ["b"]}


VALUES = st.recursive(
    st.none() | st.integers() | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


@settings(deadline=None)
@given(MAPPINGS, MAPPINGS, MAPPINGS)
def test_merging_is_associative_and_idempotent(a: dict, b: dict, c: dict) -> None:
    if all(type(x.get(k)) is type(y.get(k)) for x, y in ((a, b), (b, c)) for k in "abc"):
        assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a


def test_a_key_is_located_in_the_file_that_set_it_last(tmp_path: Path) -> None:
    base = write(tmp_path / "base.yaml", "trainer:\n  max_epochs: 3\n  precision: 32\n")
    row = write(tmp_path / "row.yaml", "base: base.yaml\n\ntrainer:\n  max_epochs: 5\n")
    composition = compose([row])
    assert composition.locate(["trainer", "max_epochs"]) == f"{row}:4"
    assert composition.locate(["trainer", "precision"]) == f"{base}:3"
    assert composition.locate(["trainer", "nothing"]) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1\n", "row.yaml:2 is not YAML"),
        ("- 1\n", "holds a list, not `key: value` lines"),
        ("base: missing.yaml\n", "missing.yaml (base of"),
        ("base: row.yaml\n", "is its own base"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    row = write(tmp_path / "row.yaml", text)
    with pytest.raises(ConfigError) as error:
        compose([row])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_file_declares_nothing(tmp_path: Path) -> None:
    assert compose([write(tmp_path / "row.yaml", "# nothing\n")]).declared == {}


def test_the_merged_config_is_plain_yaml(tmp_path: Path) -> None:
    row = write(tmp_path / "row.yaml", "a: {b: [1, x, null]}\n")
    declared = compose([row]).declared
    assert yaml.safe_load(yaml.safe_dump(declared)) == declared
