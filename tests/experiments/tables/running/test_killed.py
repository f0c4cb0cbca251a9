"""Real `table run` processes on one table, one of them killed."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_table import environment, make_table, open_gate, records, table_run

pytestmark = pytest.mark.slow  # trains three times in processes of their own


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("it does not happen")


def start(folder: Path) -> "subprocess.Popen[str]":
    words = table_run()
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_processes_that_are_killed_and_restarted_make_every_run_once(tmp_path: Path) -> None:
    make_table(tmp_path)
    with start(tmp_path) as killed:
        wait_for(lambda: any(record.last_checkpoint for record in records(tmp_path)))
        fits = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
        killed.kill()
        subprocess.run(["kill", "-KILL", *fits], check=True)
        assert killed.wait() == -signal.SIGKILL
    (broken,) = records(tmp_path)
    wait_for(lambda: broken.state == "killed")
    open_gate(tmp_path)
    with start(tmp_path) as first, start(tmp_path) as second:
        texts = [process.communicate()[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), texts
    found = records(tmp_path)
    made = [(record.facts["row"], record.seed) for record in found]
    assert sorted(made) == [("own/one", 0), ("own/two", 0)]
    assert {record.state for record in found} == {"finished"}
    resumed = [record.folder for record in found if record.facts.get("resumed")]
    assert resumed == [broken.folder]
