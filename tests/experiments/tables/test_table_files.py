"""What holds for every table file: all published tables are there, with sources and reasons."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.compose import ConfigError
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.table_files import find_tables, load_table, read_table
from lit_models.do_conv.definitions import CHANNELS, example_layer

CONFIGS = Path(__file__).parents[3] / "configs"
TABLES = [read_table(file, CONFIGS) for file in find_tables(CONFIGS)]
PUBLISHED = [
    "depthwise_separable_cost",
    "do_conv_imagenet",
    "do_conv_layer",
    "do_conv_mnist_gluoncv",
    "do_conv_mnist_pytorch",
    "do_conv_mnist_tensorflow",
    "gluoncv_architectures",
    "gluoncv_imagenet_model_zoo",
    "kernel_warehouse_ablations",
    "kernel_warehouse_convnext_tiny_imagenet",
    "kernel_warehouse_deit_tiny_imagenet",
    "kernel_warehouse_headline_claims",
    "kernel_warehouse_mask_rcnn_coco",
    "kernel_warehouse_mask_rcnn_coco_secondary",
    "kernel_warehouse_mobilenetv2_050_imagenet",
    "kernel_warehouse_mobilenetv2_100_imagenet",
    "kernel_warehouse_resnet18_100_epochs_secondary",
    "kernel_warehouse_resnet18_imagenet",
    "kernel_warehouse_resnet50_imagenet",
    "mobilenet_v1_imagenet",
    "parameter_free_analyses",
    "parameter_free_detection_and_robustness",
    "parameter_free_layer_study_cifar10",
    "parameter_free_reference_transformers",
    "parameter_free_resnet50_imagenet",
    "parameter_free_training_recipes_imagenet",
    "resnext_architectures",
    "resnext_cardinality_vs_width_imagenet",
    "resnext_cardinality_width_equivalence",
    "resnext_cifar",
    "resnext_coco",
    "resnext_double_complexity_imagenet",
    "resnext_imagenet5k",
    "resnext_residual_ablation_imagenet",
    "resnext_review_model_summary",
    "resnext_state_of_the_art_imagenet",
]
OWN = "none: this suite's own experiment, nothing was published"
EVERY_TABLE = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
# Claims of an abstract that the tables with the same rows do not say.
CLAIMED_OTHERWISE = {
    ("mobilenetv2_100_kw_4", "top1"): "75.52 in 2023, 75.92 in the table",
    ("mobilenetv2_100_kw_4", "top1_gain"): "3.90 in 2024, 3.88 in the table",
}


def test_every_published_table_is_there_and_every_other_is_the_suites_own() -> None:
    own = {table.id for table in TABLES if table.source == (OWN,)}
    assert {table.id for table in TABLES} == {*PUBLISHED, *own}
    assert not own & set(PUBLISHED)


@EVERY_TABLE
def test_a_table_with_numbers_says_where_they_were_published(table: TableSpec) -> None:
    assert table.source
    numbers = [value for row in table.rows for value in row.values.values() if value is not None]
    assert (table.source == (OWN,)) <= (not numbers)
    assert all(column.unit and column.meaning for column in table.columns)


@EVERY_TABLE
def test_every_empty_cell_has_its_reason_and_no_reason_is_idle(table: TableSpec) -> None:
    empty = [
        (row, name) for row in table.rows for name, value in row.values.items() if value is None
    ]
    assert [(row.key, name) for row, name in empty if not table.reason(row, name)] == []
    given = {(column.name, column.empty) for column in table.columns if column.empty}
    assert given <= {(name, table.reason(row, name)) for row, name in empty}


def rows_with(config: Path | None, but: str) -> list[tuple[TableSpec, RowSpec]]:
    """Rows of published tables other than `but` that have this config."""
    return [
        (table, row)
        for table in TABLES
        for row in table.rows
        if config and row.config == config and table.id in PUBLISHED and table.id != but
    ]


def test_claims_of_the_abstracts_follow_from_the_rows_of_the_tables() -> None:
    claims = load_table("kernel_warehouse_headline_claims", CONFIGS)
    found = {}
    for row in claims.rows:
        ((table, same),) = rows_with(row.config, claims.id)
        expected = {"top1": same.values["top1"]}
        if baseline := table.baseline(same):
            params, accuracy = same.values["params"], same.values["top1"]
            base_params, base_accuracy = baseline.values["params"], baseline.values["top1"]
            if params and base_params and accuracy and base_accuracy:
                expected["top1_gain"] = round(accuracy - base_accuracy, 2)
                expected["size_reduction"] = round(100 * (1 - params / base_params), 2)
        for name, claimed in row.values.items():
            if claimed is not None:
                # Two decimals of millions leave a reduction uncertain by 0.06 points.
                within = 0.06 if name == "size_reduction" else 0.001
                found[row.key, name] = claimed == pytest.approx(expected[name], rel=0, abs=within)
    assert len(found) == 10
    assert {cell for cell, agrees in found.items() if not agrees} == CLAIMED_OTHERWISE.keys()


def test_the_do_conv_layer_has_the_published_shapes() -> None:
    rows = load_table("do_conv_layer", CONFIGS).rows
    assert len(rows) == 3
    sizes: dict[Any, int] = {
        **CHANNELS,
        "in/g": CHANNELS["in"] // CHANNELS["g"],
        "kh*kw": 25,
        "d_mul": 25,
        1: 1,
    }
    for row in rows:
        layer = example_layer(row.variant["groups"], 5)
        assert layer.D is not None
        assert layer.W.shape == tuple(sizes[axis] for axis in row.variant["w_shape"])
        assert layer.D.shape == tuple(sizes[axis] for axis in row.variant["d_shape"])


def test_a_rows_reason_counts_before_its_columns(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    for row in content["rows"]:
        row["values"].update(gain=None, run2=None)
    content["columns"][3]["empty"] = "no gain was printed"
    content["columns"][1]["empty"] = "lost"
    content["rows"][0]["empty"] = {"gain": "the baseline itself"}
    table = read_table(write_table(content))
    baseline, operator = table.rows
    assert table.reason(baseline, "gain") == "the baseline itself"
    assert table.reason(operator, "gain") == "no gain was printed"
    assert table.reason(operator, "avg") is None
    assert table.empty_cells() == (
        "run2: lost",
        "gain of Plain: the baseline itself",
        "gain of the other rows: no gain was printed",
    )


def test_cells_that_are_empty_for_one_reason_are_named_together(
    content: dict[str, Any], write_table: Callable[..., Path]
) -> None:
    for row in content["rows"]:
        row["values"].update(run1=None, run2=None, avg=None)
        row["empty"] = dict.fromkeys(("run1", "run2"), "lost")
    content["columns"][2]["empty"] = "its runs are lost"
    assert read_table(write_table(content)).empty_cells() == (
        "run1, run2 of Plain; Ours: lost",
        "avg: its runs are lost",
    )


@pytest.mark.parametrize(
    ("place", "empty", "complaint"),
    [
        ("rows", {"gian": "x"}, "row baseline: empty: there is no key 'gian'; did you mean 'gain'"),
        ("rows", {"avg": "x"}, "row baseline: empty: avg has a number, so it is not empty"),
        ("rows", {"gain": None}, "row baseline: empty: gain is None; say in words why"),
        ("rows", "x", "row baseline: empty: 'x' stands where `key: value` lines belong"),
        ("columns", "", "column run1: empty is ''; say in words why there is no number"),
    ],
)
def test_a_wrong_reason_gets_one_line(
    content: dict[str, Any],
    write_table: Callable[..., Path],
    place: str,
    empty: object,
    complaint: str,
) -> None:
    content[place][0]["empty"] = empty
    file = write_table(content)
    with pytest.raises(ConfigError) as error:
        read_table(file)
    assert complaint in str(error.value)
    assert str(error.value).startswith(f"{file}: ")


def test_show_says_why_cells_are_empty(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(repository)
    assert main(args=["table", "show", "parameter_free_analyses"]) == 0
    reason = load_table("parameter_free_analyses").columns[0].empty
    assert f"Empty cells:\n  - published_number: {reason}" in capsys.readouterr().out
