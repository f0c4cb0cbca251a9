"""SLURM: the name of a job's run, and asking to be started again where its time is over."""

import os
import signal
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

# What Lightning uses too; `--signal` in the batch script must name it.
REQUEUE_SIGNAL = signal.SIGUSR1


def slurm_run_id() -> str | None:
    """Name of the run of this job step, the same after it was requeued; None outside SLURM."""
    job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")
    return f"slurm-{job}-{step}" if job and step and SLURMEnvironment.detect() else None


def was_requeued() -> bool:
    """Whether this is a SLURM job that was started before."""
    return slurm_run_id() is not None and int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0


def requeue() -> str:
    """Put this job into the queue again; returns what to say."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
    except OSError as error:
        return f"job {job} could not be requeued: {error}"
    if done.returncode:
        return f"job {job} could not be requeued: {' '.join(done.stderr.split())}"
    return f"job {job} is requeued and will go on from there"
