import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.compose import ConfigError
from experiments.launch import agree, forget

LAUNCHED = ("LOCAL_RANK", "NODE_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "CONVSUITE_RUN")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)


def never() -> list[str]:
    raise AssertionError("it was told what to take")


def test_a_process_alone_chooses_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agree(lambda: ["one", None]) == ["one", None]
    # Lightning leaves this in the process that starts the others.
    monkeypatch.setenv("LOCAL_RANK", "0")
    forget()
    assert agree(lambda: ["two", None]) == ["two", None]
    forget()


def test_a_process_that_was_started_by_the_first_takes_what_that_chose(repository: Path) -> None:
    script = (
        "import json; from experiments.launch import agree;"
        "print(json.dumps(agree(lambda: ['my own'])))"
    )
    environment = {**os.environ, "LOCAL_RANK": "1", "CONVSUITE_RUN": json.dumps(["a/folder", "x"])}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        cwd=repository,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == ["a/folder", "x"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_a_process_ends_with_the_one_that_started_it(repository: Path) -> None:
    child = (
        "import time; from experiments.launch import agree; agree(list);"
        "print('ready', flush=True); time.sleep(600)"
    )
    parent = (
        "import os, subprocess, sys, time;"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE);"
        "child.stdout.readline(); print(child.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "LOCAL_RANK": "1", "CONVSUITE_RUN": "[]"}
    done = subprocess.run(
        [sys.executable, "-c", parent], env=environment, cwd=repository, stdout=subprocess.PIPE
    )
    process = Path("/proc", done.stdout.decode().strip(), "status")
    for _ in range(100):
        # Whoever inherits the orphan may not have taken notice of its end yet.
        if not process.exists() or "State:\tZ" in process.read_text():
            return
        subprocess.run(["sleep", "0.1"], check=True)
    pytest.fail("it lives on")


def test_several_nodes_without_a_launcher_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ConfigError, match="neither torchrun nor srun has started"):
        agree(never)
