"""Real runs of the command line, on the handwritten digits."""

from pathlib import Path

import pytest
import torch
import yaml
from real_runs import assert_same_end, common, fit, last, newest

from experiments.__main__ import main

CONFIG = """\
base: {repository}/configs/smoke.yaml
trainer:
  max_epochs: {epochs}
  limit_train_batches: 8
"""


@pytest.fixture
def row(tmp_path: Path, repository: Path) -> Path:
    path = tmp_path / "row.yaml"
    path.write_text(CONFIG.format(repository=repository, epochs=3))
    return path


def test_a_fit_leaves_everything_that_was_promised(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(row) == 0
    record = newest(row)
    facts = record.facts
    assert record.state == "finished"
    assert facts["seed"] == 2020
    assert facts["parameters"] == {"training": 51395, "fused": 48722}
    assert facts["epochs"] == 3
    assert facts["steps"] == 24
    assert set(facts["metrics"]) == {"last", "best", "test"}
    assert facts["metrics"]["test"]["test/acc1"] == facts["metrics"]["test"]["test/acc1_fused"]
    assert facts["data"]["sha256"]
    assert facts["images_per_second"] > 0
    assert facts["config"]["declared"]["trainer"]["max_epochs"] == 3
    for name in ("config.yaml", "metrics.csv", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (record.folder / name).is_file(), name
    printed = capsys.readouterr().out
    assert str(record.folder) in printed.replace("\n", "")
    assert "51,395 before fusing, 48,722 after" in printed
    assert "before fusing" in printed
    assert "largest difference" in printed


def test_the_saved_config_gives_the_same_run_again(row: Path) -> None:
    assert fit(row, "--trainer.max_epochs", "2") == 0
    first = newest(row)
    assert main(["fit", "--config", str(first.folder / "config.yaml"), *common(row)]) == 0
    second = newest(row)
    assert second.folder != first.folder
    assert second.facts["row"] == "row"
    assert_same_end(first, second)


def test_another_seed_gives_another_run(row: Path) -> None:
    fit(row, "--trainer.max_epochs", "1")
    first = newest(row)
    fit(row, "--trainer.max_epochs", "1", "--seed_everything", "2021")
    weights = [next(iter(last(run)["state_dict"].values())) for run in (first, newest(row))]
    assert not torch.equal(*weights)


def test_a_finished_run_is_not_resumed(row: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(row, "--trainer.max_epochs", "1")
    assert fit(row, "--ckpt_path", "last") == 2
    assert "has finished" in capsys.readouterr().err


def test_a_checkpoint_is_tested_with_its_own_config(row: Path) -> None:
    fit(row, "--trainer.max_epochs", "1")
    fitted = newest(row)
    assert main(["test", "--ckpt_path", str(fitted.last_checkpoint), *common(row)]) == 0
    tested = newest(row)
    assert tested.facts["command"] == "test"
    assert tested.facts["metrics"]["test"] == pytest.approx(fitted.facts["metrics"]["test"])


def test_predictions_are_written_for_every_image(row: Path) -> None:
    fit(row, "--trainer.max_epochs", "1")
    assert main(["predict", "--config", str(row), "--ckpt_path", "last", *common(row)]) == 0
    predictions = torch.load(newest(row).folder / "predictions.pt", weights_only=True)
    images = len(predictions["index"])
    assert sorted(predictions["index"].tolist()) == list(range(images))
    assert predictions["probability"].shape == (images, 10)


def test_a_checkpoint_of_another_network_is_named_in_one_line(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(row, "--trainer.max_epochs", "1")
    other = ["--model.init_args.backbone", "mnist_demo_gluoncv"]
    checkpoint = str(newest(row).last_checkpoint)
    assert main(["test", "--config", str(row), "--ckpt_path", checkpoint, *common(row), *other])
    error = capsys.readouterr().err.splitlines()[-1]
    assert "these are the weights of another network: they lack 'network." in error
    assert "besides; their 'network.conv1.W' has the shape (32, 1, 9)" in error


def test_the_resolved_config_is_printed(row: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(row), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["backbone"] == "mnist_demo_tensorflow"
    assert printed["trainer"]["max_epochs"] == 3
