import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from experiments.record import RunRecord, find_runs, row_of


def test_facts_are_merged_and_on_disk_at_once(tmp_path: Path) -> None:
    record = RunRecord.open(tmp_path / "run", row="a/b", metrics={"last": {"x": 1.0}})
    record.update(metrics={"test": {"y": 2.0}}, status="finished")
    facts = json.loads((tmp_path / "run/run.json").read_text())
    assert facts["metrics"] == {"last": {"x": 1.0}, "test": {"y": 2.0}}
    assert facts["row"] == "a/b"


def test_a_record_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunRecord.open(tmp_path, status="running")

    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", no_space)
    with pytest.raises(OSError, match="No space"):
        record.update(status="finished")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "running"
    assert not list(tmp_path.glob(".run.json*"))


def _run_forever(folder: str, ready: "multiprocessing.synchronize.Event") -> None:
    record = RunRecord.open(Path(folder), status="running", started="2026")
    ready.set()
    signal.pause()
    record.close()


def test_a_killed_process_leaves_a_record_that_says_so(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_run_forever, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(30)
    record = RunRecord.read(tmp_path)
    assert record is not None
    assert record.state == "running"
    with pytest.raises(RuntimeError, match="another process is running"):
        RunRecord.open(tmp_path)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert record.state == "killed"


def test_a_broken_record_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"status": "fin')
    assert RunRecord.read(tmp_path) is None


def test_runs_are_found_newest_first(tmp_path: Path) -> None:
    for day in ("03", "01", "02"):
        RunRecord.open(tmp_path / "row" / f"run{day}", started=f"2026-01-{day}").close()
    (tmp_path / "row" / "broken").mkdir()
    (tmp_path / "row" / "broken" / "run.json").write_text("{")
    assert [record.folder.name for record in find_runs(tmp_path, "row")] == [
        "run03",
        "run02",
        "run01",
    ]


def test_a_row_is_named_by_its_path_below_configs(tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    (configs / "family").mkdir(parents=True)
    (configs / "family/row.yaml").touch()
    assert row_of(configs / "family/row.yaml") == "family/row"
    assert row_of(tmp_path / "elsewhere.yaml") == "elsewhere"


def test_a_run_folders_own_config_is_of_the_runs_row(tmp_path: Path) -> None:
    RunRecord.open(tmp_path / "run", row="family/row").close()
    assert row_of(tmp_path / "run/config.yaml") == "family/row"
