import json
from pathlib import Path
from typing import Any

import pytest

from experiments.compose import ConfigError
from experiments.tables.table_files import find_tables, load_table, read_table
from experiments.wandb_report import build_report, report_specification


@pytest.fixture(autouse=True)
def in_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def specification(table: str) -> dict[str, Any]:
    return report_specification(load_table(table), "somebody", "convsuite")


def panels(of: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for block in of["blocks"] for panel in block.get("panels", [])]


def test_rows_are_compared_by_mean_and_band_with_what_was_published() -> None:
    found = specification("do_conv_mnist_pytorch")
    bars, curve, loss, scatter, *pictures = panels(found)
    assert bars["metrics"] == ["test/acc1", "published/test/acc1"]
    assert curve["y"] == ["val/acc1", "published/test/acc1"]
    for panel in (bars, curve, loss):
        assert panel["groupby"] == "config.row"
        assert panel["groupby_aggfunc"] == "mean"
        assert panel["groupby_rangefunc"] == "stddev"
    assert (scatter["x"], scatter["y"]) == ("parameters/fused", "test/acc1")
    assert [panel["media_keys"] for panel in pictures] == [["confusion_matrix"], ["first_batch"]]
    assert "| DO-Conv | do_conv/mnist_pytorch/do_conv | 95.59 |" in found["blocks"][0]["text"]


def test_only_runs_of_the_tables_rows_as_they_are_count() -> None:
    grouped, single = (
        block["runsets"][0]
        for block in specification("do_conv_mnist_pytorch")["blocks"]
        if block["block"] == "PanelGrid"
    )
    assert grouped["filters"] == single["filters"]
    assert grouped["filters"] == (
        "Config('row') in ['do_conv/mnist_pytorch/baseline', 'do_conv/mnist_pytorch/do_conv'] "
        "and Config('changed') = False"
    )
    assert (grouped["groupby"], single["groupby"]) == (["config.row"], [])
    assert "summary:published/test/acc1" in grouped["pinned_columns"]


def test_kernel_warehouse_has_panels_of_temperature_and_attention() -> None:
    named = {panel["title"]: panel for panel in panels(specification("kernel_warehouse_digits"))}
    assert named["Attention temperature"]["y"] == ["kernel_warehouse/temperature"]
    (attention,) = (panel for panel in named.values() if "metric_regex" in panel)
    assert attention["metric_regex"] == "^attention_cells/"
    others = panels(specification("do_conv_mnist_pytorch"))
    assert not any("metric_regex" in panel for panel in others)


def test_a_table_without_published_numbers_shows_none() -> None:
    assert "published/" not in json.dumps(specification("kernel_warehouse_digits"))


def test_a_table_that_nothing_can_be_trained_of_has_no_report() -> None:
    with pytest.raises(ConfigError, match="no row has a config"):
        specification("depthwise_separable_cost")


def test_every_table_that_can_be_trained_makes_a_report() -> None:
    reports = pytest.importorskip("wandb_workspaces.reports.v2", reason="optional package")
    count = 0
    for table in (read_table(file) for file in find_tables()):
        if not table.select(None):
            continue
        report = build_report(report_specification(table, "somebody", "convsuite"))
        grids = [block for block in report.blocks if isinstance(block, reports.PanelGrid)]
        assert len(grids) in (2, 3)
        count += 1
    assert count > 20
