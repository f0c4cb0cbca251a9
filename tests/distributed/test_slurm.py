"""A row as a job of a real SLURM."""

import subprocess
import time
from pathlib import Path

import pytest
from real_runs import assert_same_end, common, fit_apart, newest
from several_processes import TWO, make_row

from experiments.commands.slurm import script
from experiments.record import RunRecord

pytestmark = [
    pytest.mark.slow,  # daemons, and a job that runs twice
    pytest.mark.slurm,
]

# Has SLURM signal the job, once, and trains on only when the signal has come.
SIGNAL_THE_JOB = """\
import os, subprocess, time
import lightning as L

class SignalTheJob(L.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx, trainer.global_rank) == (1, 4, 0):
            subprocess.run(["scancel", "--signal=USR1", os.environ["SLURM_JOB_ID"]], check=True)
            stop = trainer.callbacks[0]
            while not stop._received:
                time.sleep(0.05)
"""


@pytest.fixture
def row(tmp_path: Path) -> Path:
    (tmp_path / "signalling.py").write_text(SIGNAL_THE_JOB)
    return make_row(tmp_path)


def run_job(row: Path, cluster: dict[str, str], repository: Path) -> dict[str, str]:
    """Submit the row as a job, wait until it is done and return what SLURM says about it."""
    struck = row.with_name("struck.yaml")
    struck.write_text(
        "base: row.yaml\ntrainer: {callbacks+: [{class_path: signalling.SignalTheJob}]}\n"
    )
    scale = repository / "configs/scale/slurm.yaml"
    options = ["--config", str(struck), "--config", str(scale), *common(row)]
    options += ["--wandb", "offline", "--trainer.accelerator", "cpu", "--trainer.devices", "2"]
    job = row.with_name("job.sh")
    output = row.with_name("output")
    job.write_text(script(options, [f"--output={output}", "--time=10"]))

    def ask(*words: str) -> str:
        environment = {**cluster, "PYTHONPATH": str(row.parent)}
        return subprocess.run(
            words, env=environment, cwd=repository, capture_output=True, text=True
        ).stdout

    number = ask("sbatch", "--parsable", str(job)).strip()
    assert number.isdigit()
    for _ in range(1200):
        facts = dict(
            word.partition("=")[::2] for word in ask("scontrol", "show", "job", number).split()
        )
        if facts["JobState"] == "PENDING" and facts["Restarts"] == "1":
            # SLURM lets a job that was requeued wait for two minutes, as a rule.
            ask("scontrol", "update", f"jobid={number}", "StartTime=now")
        if facts["JobState"] in ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"):
            break
        time.sleep(0.5)
    return {**facts, "output": output.read_text()}


def test_a_job_that_is_signalled_requeues_itself_and_ends_as_if_nothing_had_happened(
    row: Path, cluster: dict[str, str], repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(row.parent)
    job = run_job(row, cluster, repository)
    assert job["JobState"] == "COMPLETED", job["output"]
    assert job["Restarts"] == "1"
    assert f"job {job['JobId']} is requeued" in job["output"]
    (folder,) = (row.parent / "runs/struck").iterdir()
    assert folder.name == f"slurm-{job['JobId']}-0"
    record = RunRecord.read(folder)
    assert record is not None
    assert record.state == "finished"
    assert record.facts["resumed"] == 1
    assert record.facts["devices"]["world_size"] == 2
    # Both parts of it are the same run of W&B, too.
    assert len(list(folder.glob(f"wandb/offline-run-*-{folder.name}"))) == 2
    assert fit_apart(row, "", "", *TWO) == 0
    assert_same_end(record, newest(row), rounding=1e-6)
