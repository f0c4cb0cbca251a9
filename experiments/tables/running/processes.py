"""The processes that make runs: started, looked at, stopped; and which devices each may use."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

SECONDS_TO_STOP = 120


class Outcome(NamedTuple):
    """How a process ended: its exit status and the last line it printed."""

    status: int
    last_line: str

    @property
    def reason(self) -> str | None:
        """Why it failed, in words; None if it did not."""
        if self.status == 0:
            return None
        _, is_error, error = self.last_line.partition("error: ")
        if is_error:
            return error
        if self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return "interrupted" if self.status == 130 else f"exit status {self.status}"


class RunProcess(Protocol):
    """A process that makes a run."""

    def poll(self) -> Outcome | None:
        """How it ended; None while it lives."""

    def terminate(self) -> None:
        """Ask it to write its record and end."""

    def wait(self) -> None:
        """Wait until it has ended, or end it after a while."""


Start = Callable[[Sequence[str], Mapping[str, str], int], RunProcess]


class LocalProcess:
    """`python WORDS` in a process of its own.

    Args:
        words: The words.
        environment: What its environment has besides this one's.
        claim: Descriptor that it keeps open.
    """

    # What starts python, and whether its output is kept from the terminal.
    launcher: tuple[str, ...] = ()
    captures = True

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], claim: int) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        # In a group of its own the process gets exactly one signal at Ctrl-C, from here.
        self._process = subprocess.Popen(
            [*self.launcher, sys.executable, *words],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            pass_fds=(claim,),
            process_group=0,
            stdout=self._output if self.captures else None,
            stderr=subprocess.STDOUT if self.captures else None,
        )

    def poll(self) -> Outcome | None:
        """How it ended; None while it lives."""
        status = self._process.poll()
        if status is None:
            return None
        with self._output as output:
            output.seek(0)
            lines = output.read().decode(errors="replace").split("\n")
        return Outcome(status, next((line.strip() for line in lines[::-1] if line.strip()), ""))

    def terminate(self) -> None:
        """Ask it to write its record and end."""
        # Not SIGINT, which what was started in a shell's background ignores.
        self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended; what is impatient, or waited for too long, kills it."""
        try:
            self._process.wait(SECONDS_TO_STOP)
        except BaseException:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def shares(jobs: int) -> list[dict[str, str]]:
    """The environments of processes that share this machine: GPUs and threads for each.

    Args:
        jobs: How many of them there are at once. A single one gets all there is.
    """
    if jobs == 1:
        return [{}]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    threads = os.environ.get("OMP_NUM_THREADS", threads)
    gpus = _gpus()
    return [{"OMP_NUM_THREADS": threads, **_share(gpus, slot, jobs)} for slot in range(jobs)]


def _share(gpus: Sequence[str], slot: int, jobs: int) -> dict[str, str]:
    if not gpus:
        return {}
    # With more processes than GPUs some share one.
    part = gpus[slot::jobs] or [gpus[slot % len(gpus)]]
    return {"CUDA_VISIBLE_DEVICES": ",".join(part)}


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name]
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, capture_output=True, text=True)
    except OSError:
        return []
    return done.stdout.split() if done.returncode == 0 else []
