"""Real runs of the command line, on the handwritten digits."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments.__main__ import main
from experiments.record import RunRecord, find_runs

CONFIG = """\
base: {repository}/configs/smoke.yaml
trainer:
  max_epochs: {epochs}
  limit_train_batches: 8
  callbacks+: [{{class_path: saboteur.Saboteur}}]
"""

# Strikes once, in the middle of an epoch: the config of the run that resumes is the same.
SABOTEUR = """\
import os, signal
import lightning as L

class Saboteur(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        wanted = os.environ.get("STRIKE", "")
        if wanted == f"{trainer.current_epoch}:{batch_idx}":
            os.kill(os.getpid(), getattr(signal, os.environ["STRIKE_WITH"]))
"""


@pytest.fixture
def row(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "saboteur.py").write_text(SABOTEUR)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "row.yaml"
    path.write_text(CONFIG.format(repository=repository, epochs=3))
    return path


def fit(row: Path, *flags: str) -> int:
    return main(["fit", "--config", str(row), *common(row), *flags])


def common(row: Path) -> list[str]:
    return ["--runs", str(row.parent / "runs"), "--wandb", "disabled"]


def newest(row: Path) -> RunRecord:
    return next(find_runs(row.parent / "runs", "row"))


def last(record: RunRecord) -> dict[str, Any]:
    assert record.last_checkpoint is not None
    return dict(torch.load(record.last_checkpoint, weights_only=True))


def assert_same_end(one: RunRecord, other: RunRecord) -> None:
    """Weights and optimiser agree bit for bit."""
    a, b = last(one), last(other)
    assert a["global_step"] == b["global_step"]
    assert a["epoch"] == b["epoch"]
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer_states"], b["optimizer_states"], rtol=0, atol=0)


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


def run_apart(row: Path, strike: str, with_signal: str, *flags: str) -> int:
    """Fit in a process of its own, which is struck at `epoch:batch`."""
    environment = {
        **os.environ,
        "STRIKE": strike,
        "STRIKE_WITH": with_signal,
        "PYTHONPATH": str(row.parent),
    }
    command = [sys.executable, "-m", "experiments", "fit", "--config", str(row)]
    done = subprocess.run(
        [*command, *common(row), *flags],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        # What a shell starts in its background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    return done.returncode


@pytest.mark.parametrize(
    ("with_signal", "state", "resumes_at"),
    [("SIGKILL", "killed", 8), ("SIGTERM", "interrupted", 13), ("SIGINT", "interrupted", 12)],
)
def test_a_run_struck_in_the_middle_of_an_epoch_resumes_to_the_same_weights(
    row: Path, with_signal: str, state: str, resumes_at: int
) -> None:
    # One thread, as in the test process: sums over more threads may differ in the last bit.
    assert run_apart(row, "1:4", with_signal) != 0
    struck = newest(row)
    assert struck.state == state
    assert last(struck)["global_step"] == resumes_at
    assert fit(row, "--ckpt_path", "last") == 0
    resumed = newest(row)
    assert resumed.folder == struck.folder
    assert resumed.state == "finished"
    assert resumed.facts["epochs"] == 3
    assert fit(row) == 0
    whole = newest(row)
    assert whole.folder != resumed.folder
    assert_same_end(resumed, whole)


def test_a_run_interrupted_again_and_again_ends_the_same(row: Path) -> None:
    assert run_apart(row, "0:3", "SIGTERM") == 130
    assert run_apart(row, "1:0", "SIGTERM", "--ckpt_path", "last") == 130
    assert run_apart(row, "2:6", "SIGKILL", "--ckpt_path", "last") == -signal.SIGKILL
    assert fit(row, "--ckpt_path", "last") == 0
    resumed = newest(row)
    assert resumed.facts["resumed"] == 3
    assert fit(row) == 0
    assert_same_end(resumed, newest(row))


def test_a_finished_run_is_not_resumed(row: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(row, "--trainer.max_epochs", "1")
    assert fit(row, "--ckpt_path", "last") == 2
    assert "has finished" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (row.parent / "spoiler.py").write_text(
        "import lightning as L\n"
        "class Spoiler(L.Callback):\n"
        "    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):\n"
        "        if (trainer.current_epoch, batch_idx) == (1, 2):\n"
        "            batch[0].fill_(float('nan'))\n"
    )
    row.write_text(row.read_text().replace("saboteur.Saboteur", "spoiler.Spoiler"))
    assert fit(row) == 1
    record = newest(row)
    assert record.state == "failed"
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: loss is nan at step 10 (epoch 1, batch 2, samples ")
    assert len(record.facts["samples"]) == 32
    checkpoint = last(record)
    assert checkpoint["global_step"] == 8
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


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
    says = (
        "these are the weights of another network: their 'network.conv1.W' has the shape (32, 1, 9)"
    )
    assert says in error


def test_the_resolved_config_is_printed(row: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config", str(row), "--print_config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["backbone"] == "mnist_demo_tensorflow"
    assert printed["trainer"]["max_epochs"] == 3
