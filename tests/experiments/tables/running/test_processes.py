import os
import signal
import time
from pathlib import Path

import pytest

from experiments.tables.running.processes import LocalProcess, Outcome, shares


def outcome(process: LocalProcess) -> Outcome:
    for _ in range(1000):
        if (found := process.poll()) is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("the process does not end")


@pytest.fixture
def claim(tmp_path: Path) -> int:
    return os.open(tmp_path / "claim", os.O_CREAT | os.O_RDWR)


def test_a_process_tells_its_status_and_last_line(claim: int) -> None:
    code = "print('first'); print('error: last'); print(); raise SystemExit(3)"
    assert outcome(LocalProcess(["-c", code], {}, claim)) == Outcome(3, "error: last")


def test_a_process_has_its_environment_and_keeps_the_claim_open(claim: int) -> None:
    code = f"import os; os.fstat({claim}); print(os.environ['SHARE'])"
    assert outcome(LocalProcess(["-c", code], {"SHARE": "mine"}, claim)) == Outcome(0, "mine")


def test_a_process_that_is_asked_to_end_ends_by_itself(claim: int, tmp_path: Path) -> None:
    code = (
        "import pathlib, signal, sys, time\n"
        "here = pathlib.Path(sys.argv[1])\n"
        "def stop(*_):\n    (here / 'ended').touch(); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "(here / 'started').touch()\n"
        "time.sleep(60)\n"
    )
    process = LocalProcess(["-c", code, str(tmp_path)], {}, claim)
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    process.terminate()
    process.wait()
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        (Outcome(0, "error: not one"), None),
        (Outcome(1, "error: no luck"), "no luck"),
        (Outcome(1, "Epoch 3"), "exit status 1"),
        (Outcome(130, "Go on with"), "interrupted"),
        (Outcome(-signal.SIGKILL, "Epoch 3"), "killed by SIGKILL"),
    ],
)
def test_a_failure_is_told_in_words(ended: Outcome, reason: str | None) -> None:
    assert ended.reason == reason


@pytest.mark.parametrize(
    ("gpus", "jobs", "parts"),
    [
        ("0,1,2,3", 2, ["0,2", "1,3"]),
        ("5", 2, ["5", "5"]),
        ("0,1", 3, ["0", "1", "0"]),
        ("", 2, [None, None]),
    ],
)
def test_processes_share_the_gpus_and_threads(
    monkeypatch: pytest.MonkeyPatch, gpus: str, jobs: int, parts: list[str | None]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    given = shares(jobs)
    assert [share.get("CUDA_VISIBLE_DEVICES") for share in given] == parts
    assert {share["OMP_NUM_THREADS"] for share in given} == {str(8 // jobs)}


def test_a_single_process_gets_all_there_is() -> None:
    assert shares(1) == [{}]
