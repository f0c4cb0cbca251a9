"""`table run --launcher slurm`: the runs of a plan as one array job.

Plain `sbatch --array`, and not submitit: what a job here needs beside its command is the signal
before its time is over, and `experiments.slurm` has that already, with Lightning's USR1 and with
`scontrol requeue` for tasks of an array. submitit would bring a second mechanism (USR2, its own
checkpoints of pickled functions) for the same thing.

Every task of the array is one line of a list of commands, and each line is a `table run` of one row
and one seed. So a task that starts hours later looks again at what is done by then, and resumes
what was interrupted.
"""

import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console

from experiments.commands.slurm import STEP, batch_script, resources
from experiments.compose import ConfigError
from experiments.tables.running.planning import Request, Task
from experiments.tables.running.processes import LocalProcess
from experiments.tables.terminal import say


class JobStep(LocalProcess):
    """`python WORDS` as a step of the SLURM job that this process runs in, on all its devices.

    What it prints belongs into the job's output.
    """

    launcher = STEP
    captures = False


def submit(
    request: Request,
    tasks: Sequence[Task],
    jobs: int | None,
    sbatch: Sequence[str],
    console: Console,
) -> int:
    """Write the list of commands and the batch script, and submit it.

    Args:
        request: What is to be run.
        tasks: The plan.
        jobs: How many tasks may run at once, None for as many as the cluster lets.
        sbatch: Further options of sbatch, each `--name=value`.
        console: Where to say what was submitted.

    Returns:
        The exit status: 1 if sbatch is not there or refuses, else 0.

    Raises:
        ConfigError: A row's config is wrong, or the rows ask for different devices.
    """
    to_do = [task for task in tasks if task.is_to_do]
    if not to_do:
        return 0
    asks_for = _resources(request, to_do)
    name = request.table.id
    now = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = (request.runs / "slurm" / f"{name}-{now}").resolve()
    folder.mkdir(parents=True)
    commands, script = folder / "commands.txt", folder / "job.sh"
    lines = [shlex.join([sys.executable, *task_words(request, task)]) for task in to_do]
    commands.write_text("\n".join(lines) + "\n", encoding="utf-8")
    array = f"--array=1-{len(lines)}" + (f"%{jobs}" if jobs else "")
    options = [*asks_for, array, f"--output={folder}/%a.out", *sbatch]
    # A line of the list is quoted for a shell, which `eval` is.
    command = f'eval "$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" {shlex.quote(str(commands))})"'
    script.write_text(batch_script(name, options, command), encoding="utf-8")
    return _sbatch(script, len(lines), console)


def task_words(request: Request, task: Task) -> list[str]:
    """The words of a task's command, `python` aside."""
    seed = ["--seeds", "1", "--first-seed", str(task.seed)]
    words = ["table", "run", request.table.id, "--rows", task.row.key, *seed, "--launcher", "step"]
    if request.recipe is not None:
        words += ["--recipe", str(request.recipe)]
    words += ["--runs", str(request.runs)]
    return ["-m", "experiments", *words, *(["--", *request.options] if request.options else [])]


def _resources(request: Request, tasks: Sequence[Task]) -> list[str]:
    from experiments.arguments import read_arguments
    from experiments.cli import SuiteCLI

    asked: dict[tuple[str, ...], str] = {}
    for row in dict.fromkeys(task.row.key for task in tasks):
        task = next(task for task in tasks if task.row.key == row)
        trainer = SuiteCLI(read_arguments(task.command(request)[2:])).config.fit.trainer
        asked.setdefault(tuple(resources(trainer)), row)
    if len(asked) > 1:
        ways = "; ".join(f"{row}: {' '.join(options)}" for options, row in asked.items())
        raise ConfigError(
            f"the rows ask for different devices ({ways}), and one array job has one answer; give "
            "--trainer.devices and --trainer.accelerator after --, or --rows"
        )
    return list(next(iter(asked)))


def _sbatch(script: Path, number: int, console: Console) -> int:
    if shutil.which("sbatch") is None:
        say(console, f"there is no sbatch here; submit it elsewhere: sbatch {script}")
        return 1
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True)
    if done.returncode:
        say(console, f"sbatch refuses {script}: {' '.join(done.stderr.split())}")
        return 1
    job = done.stdout.strip().partition(";")[0]
    say(console, f"submitted array job {job} with {number} tasks (squeue --job {job})")
    say(console, f"its commands and output: {script.parent}")
    return 0
