import json
from pathlib import Path
from typing import Any

import pytest

from experiments.compose import compose
from experiments.wandb_scheme import TrainedRow, identify, summary_of


@pytest.fixture(autouse=True)
def in_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def run(row: str, *overrides: str, seed: int = 3) -> TrainedRow:
    declared = compose([f"configs/{row}.yaml"]).declared
    return TrainedRow(row, seed, "net", declared, [f"seed_everything={seed}", *overrides])


def test_a_run_is_a_row_of_its_table() -> None:
    identity = identify(run("do_conv/mnist_pytorch/do_conv"))
    assert identity.group == "do_conv_mnist_pytorch"
    assert identity.name == "do_conv-seed3"
    assert identity.tags == ("do_conv", "net", "seed3")
    known = ("row", "table", "label", "family", "backbone", "seed", "changed")
    assert [identity.config[key] for key in known] == [
        "do_conv/mnist_pytorch/do_conv",
        "do_conv_mnist_pytorch",
        "DO-Conv",
        "do_conv",
        "net",
        3,
        False,
    ]


def test_the_config_is_the_declared_one_with_the_changes_of_the_command_line() -> None:
    identity = identify(run("do_conv/mnist_pytorch/do_conv", "trainer.max_epochs=2"))
    declared = compose(["configs/do_conv/mnist_pytorch/do_conv.yaml"]).declared
    assert identity.config["model"] == declared["model"]
    assert identity.config["trainer"] == {**declared["trainer"], "max_epochs": 2}
    assert identity.config["seed_everything"] == 3
    json.dumps(identity.config)


def test_the_published_numbers_are_known_in_their_units_and_as_the_metric() -> None:
    identity = identify(run("do_conv/mnist_pytorch/do_conv"))
    assert identity.published["published/avg"] == 95.674
    assert identity.published["published/gain"] == 0.518
    assert identity.lines == {"published/test/acc1": pytest.approx(0.95674)}


def test_a_run_that_is_not_the_row_any_more_has_no_published_numbers() -> None:
    identity = identify(run("do_conv/mnist_pytorch/do_conv", "model.init_args.backbone=resnet18"))
    assert identity.config["changed"] is True
    assert "changed" in identity.tags
    assert identity.published == identity.lines == {}


def test_watching_a_run_does_not_change_it() -> None:
    identity = identify(run("kernel_warehouse/digits/kw1x", "histograms=1", "wandb=offline"))
    assert identity.config["changed"] is False


def test_a_row_of_no_table_is_grouped_by_its_folder(tmp_path: Path) -> None:
    identity = identify(TrainedRow("mine/new/row", None, "n" * 100, {"model": 1}, []))
    assert (identity.group, identity.name) == ("mine/new", "row-seedNone")
    assert identity.tags == ("mine", "n" * 64, "seedNone")
    assert identity.published == {}


def test_a_broken_table_is_said_and_does_not_keep_a_run_from_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configs/tables").mkdir(parents=True)
    (tmp_path / "configs/tables/broken.yaml").write_text("rows: mine/new/row.yaml\n")
    monkeypatch.chdir(tmp_path)
    assert identify(TrainedRow("mine/new/row", 1, "net", {}, [])).group == "mine/new"
    assert "broken.yaml" in capsys.readouterr().out


def test_the_summary_has_the_facts_of_the_record() -> None:
    facts: dict[str, Any] = {
        "parameters": {"training": 10, "fused": 8},
        "multiply_adds": 99,
        "epochs": 2,
        "metrics": {
            "last": {"val/acc1": 0.5},
            "best": {"val/acc1": 0.6},
            "test": {"test/acc1": 0.7},
        },
    }
    assert summary_of(facts) == {
        "parameters/training": 10,
        "parameters/fused": 8,
        "multiply_adds": 99,
        "epochs": 2,
        "best/val/acc1": 0.6,
        "test/acc1": 0.7,
    }
    assert summary_of({}) == {}
