"""Runs of the real command line, in this process or in one of their own, and how they ended."""

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.__main__ import main
from experiments.record import RunRecord, find_runs

REPOSITORY = Path(__file__).parents[2]

# Strikes once, at a place such as "train 1:4" (epoch 1, batch 4) or "val 1:2": the config of the
# run that resumes is the same. With several processes STRIKE_RANK says which of them is struck.
SABOTEUR = """\
import multiprocessing, os, signal, time
import lightning as L

class Saboteur(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.strike(trainer, f"train {trainer.current_epoch}:{batch_idx}", batch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, _=0):
        if not trainer.sanity_checking:
            self.strike(trainer, f"val {trainer.current_epoch}:{batch_idx}", batch)

    def strike(self, trainer, place, batch):
        if os.environ.get("STRIKE") != place:
            return
        if os.environ.get("STRIKE_RANK", "0") != str(trainer.global_rank):
            return
        how = os.environ["STRIKE_WITH"]
        if how == "exception":
            raise RuntimeError("struck")
        elif how == "nan":
            batch[0].fill_(float("nan"))
        elif how == "worker":
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(60)
        elif how == "everybody":
            os.killpg(0, signal.SIGTERM)
        else:
            os.kill(os.getpid(), getattr(signal, how))
"""


def common(row: Path) -> list[str]:
    """Options of every run: its folder lies beside the row's config."""
    return ["--runs", str(row.parent / "runs"), "--wandb", "disabled"]


def fit(row: Path, *flags: str) -> int:
    """Fit in this process; returns the exit status."""
    return main(["fit", "--config", str(row), *common(row), *flags])


def apart(
    row: Path, words: Sequence[str], strike: str = "", how: str = "", rank: int = 0
) -> "subprocess.CompletedProcess[str]":
    """Run `python WORDS` in a process, and a process group, of its own.

    Args:
        row: Config of the run; modules beside it can be imported.
        words: What follows `python`.
        strike: Place where the saboteur strikes.
        how: With what: a signal, or any of the saboteur's ways.
        rank: Which process of the run is struck.
    """
    environment = {
        **os.environ,
        "STRIKE": strike,
        "STRIKE_WITH": how,
        "STRIKE_RANK": str(rank),
        "PYTHONPATH": f"{row.parent}{os.pathsep}{REPOSITORY}",
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
        start_new_session=True,
        # What a shell starts in its background ignores SIGINT, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def fit_apart(row: Path, strike: str, how: str, *flags: str, rank: int = 0) -> int:
    """Fit in a process of its own that the saboteur strikes; returns the exit status."""
    words = ["-m", "experiments", "fit", "--config", str(row), *common(row), *flags]
    return apart(row, words, strike, how, rank).returncode


def newest(row: Path) -> RunRecord:
    """Record of the row's newest run."""
    return next(find_runs(row.parent / "runs", row.stem))


def last(record: RunRecord) -> dict[str, Any]:
    """A run's `last.ckpt`."""
    assert record.last_checkpoint is not None
    return dict(torch.load(record.last_checkpoint, weights_only=True))


def assert_same_end(one: RunRecord, other: RunRecord, rounding: float = 0.0) -> None:
    """Weights, their averages, optimiser and all metrics agree bit for bit.

    Args:
        one: A run.
        other: Another one.
        rounding: How much metrics may differ, relatively: the loss of an epoch that several
            processes were interrupted in is summed up in another order.
    """
    a, b = last(one), last(other)
    assert a["global_step"] == b["global_step"]
    assert a["epoch"] == b["epoch"]
    for part in ("state_dict", "current_model_state", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(a.get(part), b.get(part), rtol=0, atol=0)
    rows = [_rows(record.folder / "metrics.csv") for record in (one, other)]
    assert rows[0] == [pytest.approx(row, rel=rounding, abs=0) for row in rows[1]]
    for when, metrics in other.facts["metrics"].items():
        assert one.facts["metrics"][when] == pytest.approx(metrics, rel=rounding, abs=0)


def _rows(file: Path) -> list[dict[str, float]]:
    with file.open(newline="") as lines:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(lines)
        ]
