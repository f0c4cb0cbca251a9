"""Every config file is complete, builds what it says, and says what its tables say."""

import json
import re
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from experiments.cli import build
from experiments.tables.spec import RowSpec, TableSpec
from experiments.tables.table_files import find_tables, read_table
from lit_models import ImageClassifier
from lit_models.complexity import count_parameters, multiply_adds

CONFIGS = Path(__file__).parents[1] / "configs"
SHARED = ("recipes", "data", "scale", "tables")
COMPLETE = sorted(
    path for path in CONFIGS.rglob("*.yaml") if path.relative_to(CONFIGS).parts[0] not in SHARED
)
# Columns of tables that are computed from the network, and how many of the unit's are counted.
PARAMETERS, MULTIPLY_ADDS = {"params": 1e6}, {"flops": 1e9, "mult_adds": 1e6}
# Published numbers that are not those of the network that its authors' own code builds, and why.
PUBLISHED_OTHERWISE = {
    ("kernel_warehouse_resnet18_imagenet", "resnet18_kw_1_4", "params"): (
        "4.08 M published; their code and configuration build 4,031,768"
    ),
    ("resnext_architectures", "resnet_50", "params"): (
        "25.5 M printed; the network without biases has 25,557,032, rounded 25.6 M"
    ),
    ("resnext_cifar", "resnext_29_16x64d_cifar10", "params"): (
        "68.1 M printed; ten classes give 68,155,210, rounded 68.2 M"
    ),
    ("mobilenet_v1_imagenet", "conv_mobilenet", "mult_adds"): "4866 M without the classifier",
    ("mobilenet_v1_imagenet", "mobilenet_100_160", "mult_adds"): "290 M without the classifier",
    ("mobilenet_v1_imagenet", "mobilenet_050_160", "mult_adds"): "76 M without the classifier",
    ("mobilenet_v1_imagenet", "mobilenet_050_160", "params"): "1.32 M without the norms",
    ("mobilenet_v1_imagenet", "googlenet", "params"): "torchvision's network: 6.62 M",
    ("mobilenet_v1_imagenet", "googlenet", "mult_adds"): "torchvision's network: 1498 M",
    ("mobilenet_v1_imagenet", "alexnet", "params"): "torchvision's has one column: 61.1 M",
    ("mobilenet_v1_imagenet", "alexnet", "mult_adds"): "torchvision's has one column: 714 M",
    ("mobilenet_v1_imagenet", "squeezenet", "mult_adds"): "1700 M quoted; version 1.0 has 819 M",
    ("mobilenet_v1_imagenet", "vgg_16", "mult_adds"): "15300 M quoted; the network has 15,470 M",
    **{
        ("parameter_free_reference_transformers", f"{network}_{recipe}", column): why
        for recipe in ("vanilla", "cutmix", "deit")
        for network, column, why in (
            ("pit_ti", "params", "4.9 M published; timm's network has 4,847,272, rounded 4.8 M"),
            ("pit_ti", "flops", "0.71 G published; 0.699 G without norms and activations"),
            ("pit_b", "flops", "12.5 G published; 12.40 G without norms and activations"),
        )
    },
}


class Place(NamedTuple):
    """A row of a table."""

    table: TableSpec
    row: RowSpec


def name(path: Path) -> str:
    return path.relative_to(CONFIGS).with_suffix("").as_posix()


def places() -> dict[Path, list[Place]]:
    """The rows that name a config file, for each file; it may stand in several tables."""
    found = defaultdict(list)
    for table in (read_table(file, CONFIGS) for file in find_tables(CONFIGS)):
        for row in table.rows:
            if row.config:
                found[row.config].append(Place(table, row))
    return dict(found)


PLACES = places()


@cache
def exact_parameters() -> dict[str, dict[str, int]]:
    """Numbers of parameters that were counted on the authors' networks or definitions."""
    files = (Path(__file__).parent / "exact_parameters").glob("*.json")
    return {row: counts for file in files for row, counts in json.loads(file.read_text()).items()}


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_builds_the_network_that_its_tables_describe(path: Path) -> None:
    model, data = build([path])
    assert isinstance(model, ImageClassifier)
    assert model.hparams["num_classes"] == data.num_classes  # type: ignore[attr-defined]
    training, deployed = count_parameters(model.network), None
    if exact := exact_parameters().get(name(path)):
        deployed = model.deployed()
        counts = {"training": training, "deployed": count_parameters(deployed)}
        assert counts == exact
    for table, row in PLACES.get(path, ()):
        for column in row.values.keys() & (PARAMETERS | MULTIPLY_ADDS).keys():
            published = row.values[column]
            if published is None:
                continue
            if column in PARAMETERS:
                counted = training / PARAMETERS[column]
            else:
                deployed = deployed or model.deployed()
                size = data.input_size  # type: ignore[attr-defined]
                counted = multiply_adds(deployed, size) / MULTIPLY_ADDS[column]
            digits = len(repr(published).partition(".")[2])
            agrees = round(counted, digits) == published
            expected = (table.id, row.key, column) not in PUBLISHED_OTHERWISE
            assert agrees == expected, f"{table.id}, {row.key}: {column} is {counted}"


@pytest.mark.parametrize("path", COMPLETE, ids=name)
def test_a_config_begins_with_its_own_command(path: Path) -> None:
    header = re.match(r"(#.*\n)+", path.read_text())
    assert header
    command = f"python -m experiments fit --config configs/{name(path)}.yaml"
    assert command in header[0]


@pytest.mark.parametrize("path", PLACES, ids=name)
def test_a_rows_header_says_what_its_tables_say(path: Path) -> None:
    header = path.read_text().split("\n\n")[0]
    for table, row in PLACES[path]:
        assert re.search(rf"{table.id}, row {row.key}$", header, flags=re.MULTILINE)
    published = re.findall(r"^# +published +(.*)", header, flags=re.MULTILINE)
    assert published
    values = {value for _, row in PLACES[path] for value in row.values.values()} - {None}
    said = {float(number) for line in published for number in re.findall(r"\d+\.\d+", line)}
    assert said <= values
    assert said or not values


def test_every_row_of_an_experiment_stands_in_a_table() -> None:
    assert {path for path in COMPLETE if path not in PLACES} == {CONFIGS / "smoke.yaml"}


def test_exact_parameters_are_those_of_configs_that_exist() -> None:
    assert exact_parameters().keys() <= {name(path) for path in COMPLETE}


def test_known_exceptions_are_rows_that_exist() -> None:
    rows = {(table.id, row.key) for found in PLACES.values() for table, row in found}
    assert {exception[:2] for exception in PUBLISHED_OTHERWISE} <= rows
