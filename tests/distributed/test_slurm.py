"""A real SLURM on this machine: its daemons are started here, with their own key and sockets."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from real_runs import assert_same_end, common, fit_apart, newest
from several_processes import TWO, free_port, make_row

from experiments.commands.slurm import script
from experiments.record import RunRecord

pytestmark = [
    pytest.mark.slow,  # daemons, and a job that runs twice
    pytest.mark.slurm,
]

DAEMONS = ("munged", "slurmctld", "slurmd")
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""

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


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Environment of commands that talk to a SLURM with one machine, this one."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    programs = {name: shutil.which(name, path=path) for name in (*DAEMONS, "sbatch")}
    if missing := [name for name, found in programs.items() if found is None]:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: apt-get install slurm-wlm munge)")
    if os.geteuid() != 0:
        pytest.skip("SLURM's daemons are started as root")
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "munge.key").write_bytes(secrets.token_bytes(1024))
    (folder / "munge.key").chmod(0o400)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    host = os.uname().nodename.split(".")[0]
    ports = {"port": free_port(), "node_port": free_port()}
    (folder / "slurm.conf").write_text(SLURM_CONF.format(host=host, folder=folder, **ports))
    environment = {
        **os.environ,
        "SLURM_CONF": str(folder / "slurm.conf"),
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    munge_files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
    commands = (
        [
            *(programs["munged"], "--foreground", "--force", f"--log-file={folder}/munge.log"),
            *(f"--{option}={folder}/munge.{name}" for option, name in munge_files.items()),
        ],
        [programs["slurmctld"], "-D", "-c"],
        [programs["slurmd"], "-D"],
    )
    with ExitStack() as daemons, (folder / "log").open("w") as log:
        for command in commands:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)  # type: ignore[arg-type]
            daemons.callback(process.wait)
            daemons.callback(process.terminate)
        for _ in range(60):
            said = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True)
            if said.stdout.strip() == b"idle":
                break
            time.sleep(0.5)
        else:
            pytest.fail(f"SLURM does not start:\n{(folder / 'log').read_text()}")
        yield environment
        subprocess.run(["scancel", "--user", "root", "--signal=KILL"], env=environment)


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
