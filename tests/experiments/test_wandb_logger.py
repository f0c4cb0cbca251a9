"""W&B fails in every way there is, and the run does not notice."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from experiments import wandb_logger
from experiments.loggers import build_loggers
from experiments.wandb_logger import ForgivingWandbLogger
from experiments.wandb_scheme import TrainedRow


@pytest.fixture(autouse=True)
def service_ends() -> Iterator[None]:
    yield
    wandb.teardown()


@pytest.fixture
def silent_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server that takes connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setattr(wandb_logger, "SECONDS_TO_CONNECT", 2.0)
        yield


def logger(folder: Path, mode: str = "offline") -> ForgivingWandbLogger:
    return ForgivingWandbLogger(project="test", id="abc", save_dir=folder, mode=mode)


class Run:
    """A W&B run that does as it is told."""

    def __init__(self, log: Callable[..., Any], finish: Callable[..., Any] | None = None) -> None:
        self.summary: dict[str, Any] = {}
        self.log = log
        self.finish = finish or (lambda exit_code: None)


def test_an_unreachable_server_is_said_once_and_the_run_goes_on_offline(
    tmp_path: Path, silent_server: None, capsys: pytest.CaptureFixture[str]
) -> None:
    online = logger(tmp_path, "online")
    online.log_metrics({"loss": 1.0}, 0)
    online.log_metrics({"loss": 0.5}, 1)
    assert online.experiment.offline
    online.finish(failed=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("W&B cannot be reached (")
    assert line.endswith("this run goes on offline")
    assert list(tmp_path.glob("wandb/offline-run-*-abc/*.wandb"))


def test_asking_whether_one_is_logged_in_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(prompt: bool) -> bool:
        raise wandb.errors.AuthenticationError("the server does not answer")

    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setattr(wandb, "login", unreachable)
    *_, offline = build_loggers(tmp_path, TrainedRow("a/b", 1, "net", {}, []), "auto")
    assert isinstance(offline, ForgivingWandbLogger)
    assert "cannot be reached (the server does not answer); this run is offline" in (
        capsys.readouterr().out
    )
    assert offline.experiment.offline
    offline.finish(failed=False)


def test_a_service_that_crashed_ends_only_the_logging(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def crashed(_: object) -> None:
        raise ConnectionResetError(104, "Connection reset by peer")

    failing = logger(tmp_path)
    failing._experiment = Run(crashed)
    for step in range(3):
        failing.log_metrics({"loss": 1.0}, step)
    failing.log_hyperparams({"lr": 1})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("W&B has failed ([Errno 104] Connection reset by peer)")


def test_a_disk_without_space_for_it_ends_only_the_logging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wandb, "init", full)
    failing = logger(tmp_path)
    failing.log_metrics({"loss": 1.0}, 0)
    failing.finish(failed=False)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("W&B has failed ([Errno 28] No space left")


def test_media_that_cannot_be_made_or_logged_end_only_the_logging(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged: list[dict[str, Any]] = []
    failing = logger(tmp_path)
    failing._experiment = Run(logged.append)
    failing.log_media(3, lambda wandb: {"histogram": wandb.Histogram([1, 2])})
    assert logged[0]["trainer/global_step"] == 3
    failing.log_media(4, lambda _: {"picture": 1 / 0})
    failing.log_media(5, lambda _: {"picture": 1})
    assert len(logged) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("W&B has failed (division by zero)")


def test_a_run_begins_and_ends_with_its_published_numbers_and_its_facts(tmp_path: Path) -> None:
    published = {"published/avg": 95.0}
    lines = {"published/test/acc1": 0.95}
    identified = ForgivingWandbLogger(
        summary=published,
        lines=lines,
        first_step=5,
        project="test",
        group="table",
        name="row-seed1",
        tags=["family", "seed1"],
        config={"row": "family/row"},
        id="abc",
        save_dir=tmp_path,
        mode="offline",
    )
    identified.log_metrics({"loss": 1.0}, 7)
    identified.finish(failed=False, summary={"parameters/fused": 12})
    (folder,) = tmp_path.glob("wandb/offline-run-*-abc")
    records = inspect(folder)
    run = next(record["run"] for record in records if record["type"] == "run")
    assert (run["run_group"], run["display_name"]) == ("table", "row-seed1")
    assert run["tags"] == ["family", "seed1"]
    assert run["config"]["update"]["row"] == "family/row"
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    drawn = [item["trainer/global_step"] for item in history if lines.items() <= item.items()]
    assert drawn == [5, 7]
    summary = json.loads(leet(folder, "--summary"))["summary"]
    assert (published | lines | {"parameters/fused": 12, "loss": 1.0}).items() <= summary.items()


def leet(folder: Path, *flags: str) -> str:
    """What `wandb leet inspect` says of an offline run."""
    words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", *flags, str(folder)]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def inspect(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in leet(folder).splitlines()]


def test_an_upload_without_end_is_left_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wandb_logger, "SECONDS_TO_FINISH", 0.1)
    forever = threading.Event()
    slow = logger(tmp_path)
    slow._experiment = Run(lambda _: None, lambda _: forever.wait())
    slow.finish(failed=False)
    assert "W&B still uploads after 0.1 seconds" in capsys.readouterr().out
    forever.set()
