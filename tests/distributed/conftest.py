"""A real SLURM on this machine: its daemons are started here, with their own key and sockets."""

import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from several_processes import free_port

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


@pytest.fixture(scope="session")
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
