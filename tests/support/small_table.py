"""A table in a folder of its own whose two rows train in a second, for real `table run`s."""

import os
import sys
from pathlib import Path

import yaml
from real_runs import REPOSITORY

from experiments.record import RunRecord, find_runs

ROWS = ("one", "two")
TABLE = {
    "id": "small",
    "title": "Digits",
    "paper": {"title": "None", "authors": [], "venue": "none", "year": 2000},
    "source": ["none"],
    "dataset": "digits",
    "protocol": {},
    "columns": [{"name": "top1", "unit": "percent", "meaning": "top-1", "better": "higher"}],
    "reproduce": {"metric": "test/acc1", "quantity": "accuracy", "column": "top1"},
    "rows": [
        {"key": key, "label": key, "config": f"own/{key}.yaml", "values": {"top1": None}}
        for key in ROWS
    ],
}
CONFIG = """\
base: {repository}/configs/kernel_warehouse/digits/baseline.yaml
wandb: disabled
trainer:
  accelerator: cpu
  devices: 1
  max_epochs: 2
  limit_train_batches: 10
  enable_progress_bar: false
  enable_model_summary: false
  callbacks: [{{class_path: gate.Gate}}]
"""
# Every run waits in its second epoch until the gate is opened, or a signal asks it to stop.
GATE = """\
import pathlib, time
import lightning as L

class Gate(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        gate, stop = pathlib.Path(__file__).parent / "open", trainer.callbacks[0]
        while trainer.current_epoch == 1 and not gate.exists() and not stop._received:
            time.sleep(0.05)
"""


def make_table(folder: Path) -> None:
    """Write the table `small`, its rows' configs and the gate below `folder`."""
    (folder / "gate.py").write_text(GATE)
    for row in ROWS:
        config = folder / "configs/own" / f"{row}.yaml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(CONFIG.format(repository=REPOSITORY))
    table = folder / "configs/tables/small.yaml"
    table.parent.mkdir()
    table.write_text(yaml.safe_dump(TABLE))


def table_run(*words: str) -> list[str]:
    """The words of a `table run` of the table."""
    return [sys.executable, "-m", "experiments", "table", "run", "small", *words]


def environment(folder: Path) -> dict[str, str]:
    """The environment of a process that finds the gate."""
    return {**os.environ, "PYTHONPATH": f"{folder}:{REPOSITORY}", "OMP_NUM_THREADS": "1"}


def open_gate(folder: Path) -> None:
    """Let all runs go on."""
    (folder / "open").touch()


def records(folder: Path) -> list[RunRecord]:
    """All runs of the table's rows."""
    return [record for row in ROWS for record in find_runs(folder / "runs", f"own/{row}")]
