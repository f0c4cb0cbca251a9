"""`slurm`: the batch script of a run."""

import shlex
import sys
from collections.abc import Sequence
from typing import Any

from experiments.compose import ConfigError
from experiments.slurm import REQUEUE_SIGNAL

# From the signal to the end of the job: time for a step, perhaps a validation, and a checkpoint.
SECONDS_TO_STOP = 120
# What starts a run as a step of its job, on all its devices.
STEP = ("srun", "--kill-on-bad-exit=1")

USAGE = """\
usage: python -m experiments slurm --config ROW.yaml --config configs/scale/slurm.yaml [options of fit] [-- options of sbatch] > job.sh

Prints a batch script that runs `fit` with these options, on the machines and devices that they name.
"""  # noqa: E501


def main(arguments: Sequence[str]) -> int:
    """Print the batch script; returns the exit status."""
    given = list(arguments[1:])
    if not given or given[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    options = given.index("--") if "--" in given else len(given)
    print(script(given[:options], given[options + 1 :]), end="")
    return 0


def script(fit: Sequence[str], sbatch: Sequence[str]) -> str:
    """Return the batch script.

    Args:
        fit: Options of `fit`.
        sbatch: Further options of sbatch, each `--name=value`; they come last, and so win.

    Raises:
        ConfigError: The run's config is wrong, or leaves the number of devices open.
    """
    from experiments.arguments import read_arguments
    from experiments.cli import SuiteCLI

    read = read_arguments(["fit", *fit])
    trainer = SuiteCLI(read).config.fit.trainer
    name = read.row_file.stem if read.row_file else "fit"
    command = [*STEP, sys.executable, "-m", "experiments", "fit", *fit]
    return batch_script(name, [*resources(trainer), "--output=slurm-%j.out", *sbatch], command)


def resources(trainer: Any) -> list[str]:
    """Options of sbatch: the machines and devices that a run's trainer config asks for.

    Raises:
        ConfigError: It leaves the number of devices open.
    """
    devices = _devices(trainer)
    return [
        f"--nodes={trainer.num_nodes}",
        f"--ntasks-per-node={devices}",
        *([] if trainer.accelerator == "cpu" else [f"--gpus-per-node={devices}"]),
    ]


def batch_script(name: str, sbatch: Sequence[str], command: str | Sequence[str]) -> str:
    """Return a batch script that is signalled before its time is over and can be requeued.

    Args:
        name: Name of the job.
        sbatch: Options of sbatch; of two that contradict each other the later one wins.
        command: What it runs: words, or a line of shell.
    """
    lines = [
        f"--job-name={name}",
        f"--signal={REQUEUE_SIGNAL.name}@{SECONDS_TO_STOP}",
        "--requeue",
        "--open-mode=append",
        *sbatch,
    ]
    line = command if isinstance(command, str) else shlex.join(command)
    return "#!/bin/bash\n" + "".join(f"#SBATCH {each}\n" for each in lines) + f"\n{line}\n"


def _devices(trainer: Any) -> int:
    devices = trainer.devices
    if str(devices).isdigit():
        return int(devices)
    raise ConfigError(
        f"trainer.devices is {devices}; a batch script needs their number on each machine, as in "
        "configs/scale/slurm.yaml"
    )
