"""The search: its network, its two steps, what it finds, and that it resumes."""

import os
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import timm
import torch
from real_runs import SABOTEUR, assert_same_end, fit, fit_apart, last, newest
from torch.utils.data import DataLoader

from lit_models import ArchitectureSearch
from lit_models.optimization import OptimizerSettings
from lit_models.parameter_free.cell_search import MixedOperation, SearchNetwork
from lit_models.parameter_free.cells import CellNetwork
from lit_models.parameter_free.search_module import parameter_free_shares

SMALL = {"cells": 3, "channels": 2, "nodes": 2, "in_chans": 1}
SEARCH = {key: value for key, value in SMALL.items() if key != "in_chans"}


def network(**options: Any) -> SearchNetwork:
    torch.manual_seed(0)
    built = timm.create_model("cell_search", **{**SMALL, **options})
    assert isinstance(built, SearchNetwork)
    return built


def prefer(found: SearchNetwork, cell: int, edge: int, operation: str, logit: float) -> None:
    mixed = found.cells[cell].edges[edge]
    assert isinstance(mixed, MixedOperation)
    with torch.no_grad():
        mixed.preferences[mixed.operations.index(operation)] = logit


def test_an_edge_is_the_weighted_sum_of_its_operations() -> None:
    torch.manual_seed(0)
    preferences = torch.nn.Parameter(torch.randn(3))
    mixed = MixedOperation(["max_pool", "avg_pool", "identity"], 4, 2, preferences)
    x = torch.randn(2, 4, 9, 9)
    weights = preferences.exp() / preferences.exp().sum()
    expected = sum(w * operation(x) for w, operation in zip(weights, mixed.candidates, strict=True))
    torch.testing.assert_close(mixed(x), expected)


@pytest.mark.parametrize(("individual", "cells"), [(False, 2), (True, 5)])
def test_cells_share_what_is_learned_about_them_or_do_not(individual: bool, cells: int) -> None:
    found = network(cells=5, individual=individual)
    assert len(found.architecture()) == cells * (2 + 3)
    names = found.genotype().keys()
    assert names == ({f"cell{i}" for i in range(5)} if individual else {"normal", "reduction"})


def test_the_strongest_edges_with_their_best_operation_are_found() -> None:
    found = network(individual=True)
    for edge, operation, logit in (
        (0, "max_pool", 1.0),
        (1, "conv", 2.0),
        (2, "avg_pool", 3.0),  # from the first input to the second node
        (3, "conv", 0.5),
        (4, "identity", 2.0),
    ):
        prefer(found, 0, edge, operation, logit)
    assert found.genotype()["cell0"] == [
        [(0, "max_pool"), (1, "conv")],
        [(0, "avg_pool"), (2, "identity")],
    ]


def test_what_is_found_can_be_built() -> None:
    for individual in (False, True):
        found = network(individual=individual)
        built = CellNetwork(found.genotype(), cells=3, channels=2, in_chans=1)
        assert built(torch.randn(2, 1, 16, 16)).shape == (2, 10)


def test_shares_are_of_kinds_and_of_cells() -> None:
    shared = {"normal": [[(0, "conv"), (1, "max_pool")]], "reduction": [[(0, "identity")]]}
    assert parameter_free_shares(shared, 8) == {"normal": 0.5, "reduction": 1.0}
    own = {"cell0": [[(0, "conv")]], "cell1": [[(0, "conv")]], "cell2": [[(0, "avg_pool")]]}
    assert parameter_free_shares(own, 3) == {
        "cell0": 0,
        "cell1": 0,
        "cell2": 1,
        "normal": 0,
        "reduction": 0.5,
    }


def searching(**options: Any) -> ArchitectureSearch:
    torch.manual_seed(0)
    return ArchitectureSearch(
        num_classes=10,
        in_chans=1,
        backbone_args=SEARCH,
        optimizer=OptimizerSettings("momentum", lr=0.1),
        **options,
    )


def one_step(model: ArchitectureSearch, rows: torch.Tensor, **options: Any) -> dict[str, bool]:
    """Train on one batch of images of these rows; says which parameters moved."""
    images = torch.randn(len(rows), 1, 8, 8)
    batches = [(images, torch.arange(len(rows)) % 10, rows)]
    before = {name: p.detach().clone() for name, p in model.network.named_parameters()}
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(model, DataLoader(batches, batch_size=None))
    now = dict(model.network.named_parameters())
    return {name: not torch.equal(before[name], now[name]) for name in before}


def moved(changes: dict[str, bool], architecture: bool) -> set[bool]:
    return {moved for name, moved in changes.items() if ("preferences" in name) == architecture}


def test_even_rows_train_the_weights_and_odd_rows_the_architecture() -> None:
    changes = one_step(searching(), torch.arange(0, 16, 2))
    assert moved(changes, architecture=True) == {False}
    assert True in moved(changes, architecture=False)
    changes = one_step(searching(), torch.arange(1, 17, 2))
    assert moved(changes, architecture=True) == {True}
    assert moved(changes, architecture=False) == {False}
    changes = one_step(searching(), torch.arange(16))
    assert moved(changes, architecture=True) == {True}
    assert True in moved(changes, architecture=False)


def test_weight_decay_of_the_weights_does_not_touch_the_architecture() -> None:
    model = searching(architecture_lr=0.0)
    model.optimizer_settings = OptimizerSettings("momentum", lr=0.1, weight_decay=0.5)
    assert moved(one_step(model, torch.arange(16)), architecture=True) == {False}


def test_gradients_of_the_weights_are_clipped_and_those_of_the_architecture_are_not() -> None:
    model = searching(gradient_clip=0.0, architecture_lr=0.1)
    model.clip_gradients = lambda optimizer, norm, kind: clipped.append((optimizer, norm, kind))  # type: ignore[method-assign,misc,assignment]
    clipped: list[Any] = []
    one_step(model, torch.arange(16))
    assert clipped == [(model.trainer.optimizers[0], 0.0, "norm")]


def test_a_limit_in_steps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_steps is 10; .* give trainer.max_epochs alone"):
        one_step(searching(), torch.arange(16), max_steps=10)
    changes = one_step(searching(), torch.arange(16), fast_dev_run=True)
    assert moved(changes, architecture=True) == {True}


def test_other_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="cell_network is no search network; name cell_search"):
        ArchitectureSearch("cell_network", num_classes=10)


@pytest.mark.parametrize("options", [{"operations": ["conv"]}, {"nodes": 0}])
def test_a_search_without_a_choice_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a search needs two different operations and a node"):
        network(**options)


CONFIG = """\
base: {repository}/configs/parameter_free/cell_search_digits/shared.yaml
model: {{init_args: {{backbone_args: {{channels: 2, stem_stride: 4}}}}}}
trainer:
  accelerator: cpu
  max_epochs: 2
  limit_train_batches: 4
  enable_progress_bar: false
  enable_model_summary: false
  callbacks+:
    - {{class_path: sabotage.Saboteur}}
"""


@pytest.fixture
def row(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sabotage.py").write_text(SABOTEUR)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "row.yaml"
    path.write_text(CONFIG.format(repository=repository))
    return path


@pytest.mark.slow  # a process of its own, and two searches
def test_a_search_that_was_killed_resumes_to_the_same_cells(row: Path) -> None:
    assert "STRIKE" not in os.environ
    assert fit(row) == 0
    whole = newest(row)
    assert fit_apart(row, "train 0:3", "SIGTERM") == 130
    assert fit(row, "--ckpt_path", "last") == 0
    resumed = newest(row)
    assert resumed.folder != whole.folder
    assert_same_end(whole, resumed)
    assert len(last(whole)["optimizer_states"]) == 2
    files = [record.folder / "genotype.yaml" for record in (whole, resumed)]
    assert files[0].read_text() == files[1].read_text()
