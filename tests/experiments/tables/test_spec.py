import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.compose import ConfigError
from experiments.tables.table_files import find_tables, load_table, read_table

CONFIGS = Path(__file__).parents[3] / "configs"
TABLES = find_tables(CONFIGS)


def has_single_runs(file: Path) -> bool:
    reproduce = read_table(file, CONFIGS).reproduce
    return reproduce is not None and bool(reproduce.runs)


@pytest.mark.parametrize("file", TABLES, ids=lambda file: file.stem)
def test_every_table_file_is_valid_and_names_configs_that_exist(file: Path) -> None:
    table = read_table(file, file.parents[1])
    assert table.rows
    assert all(row.config is None or row.config.is_file() for row in table.rows)


@pytest.mark.parametrize("file", filter(has_single_runs, TABLES), ids=lambda file: file.stem)
def test_published_means_and_gains_follow_from_the_published_runs(file: Path) -> None:
    table = read_table(file, file.parents[1])
    reproduce = table.reproduce
    assert reproduce is not None
    means = {}
    for row in table.rows:
        means[row.key] = statistics.fmean(row.values[name] for name in reproduce.runs)
        assert row.values[reproduce.column] == pytest.approx(means[row.key], abs=6e-4)
    if reproduce.gain and reproduce.gain.column:
        for row in table.rows:
            published = row.values[reproduce.gain.column]
            baseline = table.baseline(row)
            gain = means[row.key] - means[baseline.key] if baseline else None
            assert published is None or published == pytest.approx(gain, abs=6e-4)


def test_there_are_tables() -> None:
    assert {"do_conv_mnist_pytorch", "do_conv_mnist_tensorflow", "do_conv_mnist_gluoncv"} <= {
        file.stem for file in TABLES
    }


def test_null_stays_an_empty_cell(table: Path) -> None:
    baseline = read_table(table).rows[0]
    assert baseline.values["gain"] is None
    assert baseline.name == "own/baseline"


def test_a_row_may_be_published_only(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    content["rows"][0]["config"] = None
    table = read_table(write_table(content))
    assert [row.key for row in table.select(None)] == ["operator"]
    with pytest.raises(ConfigError, match="row baseline has no config"):
        table.select(["baseline"])


def _change(content: dict[str, Any], keys: tuple[Any, ...], value: Any) -> None:
    *above, last = keys
    for key in above:
        content = content[key]
    content[last] = value


@pytest.mark.parametrize(
    ("keys", "value", "complaint"),
    [
        (("titel",), "x", "there is no key 'titel'; did you mean 'title'"),
        (("id",), "other", "id is 'other', but the file's name says small"),
        (("paper",), "x", "paper: 'x' stands where `key: value` lines belong"),
        (("rows",), "x", "rows is 'x'; write a list"),
        (("notes",), [{"a": 1}], "notes: {'a': 1} is no text; put it in quotes"),
        (("columns", 0, "unti"), "x", "column run1: there is no key 'unti'; did you mean 'unit'"),
        (("columns", 0, "better"), "more", "column run1: better is 'more'; write higher, lower"),
        (("columns", 1, "name"), "run1", "two columns are called run1"),
        (("rows", 0, "vales"), {}, "row baseline: there is no key 'vales'; did you mean 'values'"),
        (("rows", 1, "key"), "baseline", "two rows have the key baseline"),
        (("rows", 0, "config"), "own/gone.yaml", "row baseline: config: no file configs/own/gone"),
        (("rows", 0, "values", "avg"), "90.25", "values: avg is '90.25'; write a number or null"),
        (("rows", 0, "values", "avgg"), 1, "values: there is no key 'avgg'; did you mean 'avg'"),
        (("rows", 0, "values"), {"avg": 1.0}, "values: the key 'run1' is missing; null is an"),
        (("reproduce", "column"), "av", "reproduce: there is no column 'av'; did you mean 'avg'"),
        (("reproduce", "gain", "over"), "base", "gain: over: there is no row 'base'; did you"),
        (("reproduce", "gain"), {"column": "gain"}, "gain: `over` says over which row"),
        (("reproduce", "complement"), 1, "reproduce: complement is 1; write true or false"),
        (("rows", 1, "over"), "basline", "row operator: over: there is no row 'basline'; did you"),
    ],
)
def test_a_wrong_table_file_gets_one_line_with_file_and_key(
    content: dict[str, Any],
    write_table: Callable[..., Path],
    keys: tuple[Any, ...],
    value: Any,
    complaint: str,
) -> None:
    _change(content, keys, value)
    file = write_table(content)
    with pytest.raises(ConfigError) as error:
        read_table(file)
    assert complaint in str(error.value)
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


def test_a_row_may_name_the_row_that_its_gain_is_over(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    content["reproduce"]["gain"] = {"column": "gain"}
    content["rows"][1]["over"] = "baseline"
    table = read_table(write_table(content))
    baseline, operator = table.rows
    assert table.baseline(operator) is baseline
    assert table.baseline(baseline) is None


def test_a_row_over_another_needs_to_know_what_a_gain_is(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    del content["reproduce"]["gain"]
    content["rows"][1]["over"] = "baseline"
    with pytest.raises(ConfigError, match="row operator: over needs `gain:`"):
        read_table(write_table(content))


def test_an_unknown_table_gets_the_nearest_name(table: Path) -> None:
    with pytest.raises(ConfigError, match="no table is called 'smal'; did you mean 'small'"):
        load_table("smal")
    with pytest.raises(ConfigError, match="'zzz'; `table list` shows all"):
        load_table("zzz")


def test_an_unknown_row_gets_the_nearest_name(table: Path) -> None:
    with pytest.raises(ConfigError, match="small has no row 'operatr'; did you mean 'operator'"):
        load_table("small").select(["operatr"])


def test_outside_the_repository_the_missing_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="no folder configs/tables here"):
        load_table("small")


def test_decimals_are_those_of_the_most_precise_published_number(table: Path) -> None:
    spec = load_table("small")
    assert spec.decimals("avg") == 3
    assert spec.decimals("run1") == 1
