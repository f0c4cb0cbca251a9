from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.compose import ConfigError
from experiments.tables.places import find_places


def test_a_row_is_found_in_the_table_that_names_its_config(table: Path) -> None:
    (place,) = find_places("own/operator")
    assert (place.table.id, place.row.key) == ("small", "operator")
    assert place.published_metric == {"test/acc1": pytest.approx(0.91125)}


def test_a_row_of_no_table_and_a_folder_without_tables_have_no_place(
    table: Path, tmp_path: Path
) -> None:
    assert find_places("own/other") == []
    assert find_places("own/operator", tmp_path / "elsewhere") == []


def test_an_error_is_published_as_the_accuracy_that_runs_measure(
    write_table: Callable[..., Path], content: dict[str, Any]
) -> None:
    content["reproduce"]["complement"] = True
    write_table(content)
    (place,) = find_places("own/operator")
    assert place.published_metric == {"test/acc1": pytest.approx(1 - 0.91125)}


def test_the_table_whose_numbers_are_reproduced_comes_first(
    write_table: Callable[..., Path], content: dict[str, Any]
) -> None:
    write_table({**content, "id": "z"}, "z")
    del content["reproduce"]
    write_table({**content, "id": "a"}, "a")
    assert [place.table.id for place in find_places("own/operator")] == ["z", "a"]


def test_only_tables_that_mention_the_row_are_parsed(table: Path) -> None:
    table.with_name("broken.yaml").write_text("rows: [{config: other/row.yaml}]\n")
    assert find_places("own/operator")
    table.with_name("broken.yaml").write_text("rows: [{config: own/operator.yaml}]\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        find_places("own/operator")
