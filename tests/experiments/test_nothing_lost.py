"""What happens to real jobs: interrupted anywhere, a run resumes to what it would have been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from real_runs import (
    REPOSITORY,
    SABOTEUR,
    assert_same_end,
    common,
    fit,
    fit_apart,
    last,
    newest,
)

from experiments.__main__ import main

CONFIG = """\
base: {repository}/configs/smoke.yaml
trainer:
  max_epochs: 3
  limit_train_batches: 8
  callbacks+:
    - {{class_path: callbacks.EMACallback, init_args: {{decay: 0.9}}}}
    - {{class_path: saboteur.Saboteur}}
"""


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "saboteur.py").write_text(SABOTEUR)
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "row.yaml"
    path.write_text(CONFIG.format(repository=REPOSITORY))
    return path


def assert_resumes(row: Path) -> None:
    """The newest run, resumed, ends as one that nothing happened to."""
    struck = newest(row)
    assert fit(row, "--ckpt_path", "last") == 0
    resumed = newest(row)
    assert resumed.folder == struck.folder
    assert resumed.state == "finished"
    assert fit(row) == 0
    whole = newest(row)
    assert whole.folder != resumed.folder
    assert_same_end(resumed, whole)


@pytest.mark.parametrize(
    ("strike", "how", "state", "resumes_at"),
    [
        ("train 1:4", "SIGKILL", "killed", 8),
        ("train 1:4", "SIGTERM", "interrupted", 13),
        ("train 1:4", "SIGINT", "interrupted", 13),
        ("train 1:4", "exception", "failed", 12),
        ("val 1:2", "SIGTERM", "interrupted", 16),
        ("val 1:2", "exception", "failed", 16),
    ],
)
def test_a_run_struck_anywhere_resumes_to_the_same_weights(
    row: Path, strike: str, how: str, state: str, resumes_at: int
) -> None:
    # One thread, as in the test process: sums over more threads may differ in the last bit.
    assert fit_apart(row, strike, how) != 0
    struck = newest(row)
    assert struck.state == state
    assert last(struck)["global_step"] == resumes_at
    assert_resumes(row)


@pytest.mark.slow  # four processes, one after another
def test_a_run_interrupted_again_and_again_ends_the_same(row: Path) -> None:
    assert fit_apart(row, "train 0:3", "SIGTERM") == 130
    assert fit_apart(row, "train 1:0", "SIGTERM", "--ckpt_path", "last") == 130
    assert fit_apart(row, "train 2:6", "SIGKILL", "--ckpt_path", "last") == -signal.SIGKILL
    assert_resumes(row)
    assert len(list((row.parent / "runs/row").iterdir())) == 2


KERNEL_WAREHOUSE = """\
base: {repository}/configs/kernel_warehouse/digits/kw1x.yaml
model:
  init_args:
    mix: {{mixup_alpha: 0.8, cutmix_alpha: 1.0}}
    label_smoothing: 0.1
data: {{init_args: {{drop_last: true}}}}
trainer:
  max_epochs: 8
  accumulate_grad_batches: 3
  callbacks+: [{{class_path: callbacks.EMACallback, init_args: {{decay: 0.99, warmup: true}}}}]
"""


@pytest.mark.slow  # four processes, one after another
def test_a_run_killed_at_random_moments_ends_the_same(tmp_path: Path) -> None:
    """Temperature, mixing, schedule, accumulation and averages included."""
    row = tmp_path / "row.yaml"
    row.write_text(KERNEL_WAREHOUSE.format(repository=REPOSITORY))
    kill_after_a_checkpoint(row)
    assert newest(row).state == "killed"
    for _ in range(2):
        if newest(row).state != "finished":
            kill_after_a_checkpoint(row, "--ckpt_path", "last")
    if newest(row).state != "finished":
        assert fit(row, "--ckpt_path", "last") == 0
    killed = newest(row)
    assert fit(row) == 0
    assert_same_end(killed, newest(row))


def kill_after_a_checkpoint(row: Path, *flags: str) -> None:
    """Fit in a process of its own and kill it at any moment after it has written a checkpoint."""

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in row.parent.glob("runs/row/*/*/last.ckpt")]

    before = written()
    command = [sys.executable, "-m", "experiments", "fit", "--config", str(row), *common(row)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([*command, *flags], cwd=REPOSITORY, env=environment, **quiet) as process:
        while process.poll() is None and written() == before:
            time.sleep(0.02)
        time.sleep(random.uniform(0.0, 1.5))
        process.kill()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    row: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STRIKE", "train 1:2")
    monkeypatch.setenv("STRIKE_WITH", "nan")
    assert fit(row) == 1
    record = newest(row)
    assert record.state == "failed"
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: loss is nan at step 10 (epoch 1, batch 2, samples ")
    assert len(record.facts["samples"]) == 32
    checkpoint = last(record)
    assert checkpoint["global_step"] == 8
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())


def test_a_disk_that_is_full_when_a_checkpoint_is_written_costs_one_epoch(
    row: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save, calls = torch.save, []

    def full_from_the_second_epoch_on(checkpoint: dict[str, object], file: object) -> None:
        calls.append(checkpoint["epoch"])
        if checkpoint["epoch"] == 1:
            file.write(b"half")  # type: ignore[attr-defined]
            raise OSError(28, "No space left on device", "last.ckpt")
        save(checkpoint, file)

    monkeypatch.setattr(torch, "save", full_from_the_second_epoch_on)
    assert fit(row) == 1
    monkeypatch.undo()
    monkeypatch.syspath_prepend(row.parent)
    assert calls[-1] == 1
    assert "no space left on the disk at last.ckpt; free some" in capsys.readouterr().err
    struck = newest(row)
    assert struck.state == "failed"
    assert "no space left" in struck.facts["why"]
    assert sorted(os.listdir(struck.folder / "checkpoints")) == ["best.ckpt", "last.ckpt"]
    assert last(struck)["global_step"] == 8
    assert_resumes(row)


IMAGES = """\
seed_everything: 1
threads: 1
model:
  class_path: lit_models.ImageClassifier
  init_args: {{backbone: mnist_demo_tensorflow, optimizer: {{name: adam, lr: 0.001}}}}
data:
  class_path: datamodules.ImageNetDataModule
  init_args: {{root: {root}, batch_size: 4, input_size: 28, holdout: 6, num_workers: 1}}
trainer:
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 3
  callbacks: [{{class_path: saboteur.Saboteur}}]
"""


@pytest.fixture
def images(row: Path) -> Path:
    """A row on image files, which worker processes read."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 30), ("val", 6)):
        for number in range(count):
            path = row.parent / "images" / split / "abc"[number % 3] / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    row.write_text(IMAGES.format(root=row.parent / "images"))
    return row


def test_a_worker_that_dies_ends_the_run_with_a_reason(images: Path) -> None:
    assert fit_apart(images, "train 1:2", "worker") == 1
    struck = newest(images)
    assert struck.state == "failed"
    assert "a process that loads data has died" in struck.facts["why"]
    assert last(struck)["global_step"] == 8
    assert_resumes(images)


def test_a_signal_to_all_processes_of_a_run_leaves_its_workers_alone(images: Path) -> None:
    assert fit_apart(images, "train 1:2", "everybody") == 130
    struck = newest(images)
    assert struck.state == "interrupted"
    assert struck.facts["why"] == "stopped by SIGTERM"
    assert last(struck)["global_step"] == 9
    assert_resumes(images)


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("payload",)


def test_a_checkpoint_with_code_in_it_is_refused_in_one_line(
    row: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(row.parent)
    torch.save({"state_dict": _Payload(), "global_step": 0}, "evil.ckpt")
    for command in ("fit", "test", "validate", "predict"):
        words = [command, "--config", str(row), "--ckpt_path", "evil.ckpt", *common(row)]
        assert main(words) == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: evil.ckpt is refused: it holds more than tensors")
    assert not Path("payload").exists()


def test_a_run_says_which_batch_it_cannot_make(
    row: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(row, "--published_batch", "100", "--keep_published_batch", "true") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "error: 1 device x 32 images = 32 does not divide the published batch of 100; give "
        "--data.init_args.batch_size 25, or --keep_published_batch false"
    )
    assert newest(row).state == "failed"
