from pathlib import Path

import pytest

from experiments.compose import ConfigError
from experiments.record import RunRecord
from experiments.run_folder import choose_run_folder


def run(runs: Path, name: str, status: str, seed: int = 1, checkpoint: str = "last") -> Path:
    folder = runs / "row" / name
    RunRecord.open(folder, command="fit", status=status, seed=seed, started=name).close()
    (folder / "checkpoints").mkdir()
    if checkpoint:
        (folder / "checkpoints" / f"{checkpoint}.ckpt").touch()
    return folder


def test_a_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {choose_run_folder("fit", tmp_path, "a/b", 1, None).path for _ in range(5)}
    assert len(folders) == 5
    assert all(folder.parent == tmp_path / "a/b" for folder in folders)


def test_last_resumes_the_newest_unfinished_run_of_the_seed(tmp_path: Path) -> None:
    run(tmp_path, "2026-1", "failed")
    wanted = run(tmp_path, "2026-2", "interrupted")
    run(tmp_path, "2026-3", "finished")
    run(tmp_path, "2026-4", "failed", seed=2)
    run(tmp_path, "2026-5", "failed", checkpoint="")
    chosen = choose_run_folder("fit", tmp_path, "row", 1, "last")
    assert chosen.path == wanted
    assert chosen.checkpoint == str(wanted / "checkpoints/last.ckpt")


@pytest.mark.parametrize(("status", "says"), [("finished", "has finished"), (None, "nothing to")])
def test_where_there_is_nothing_to_resume_it_is_said(
    tmp_path: Path, status: str | None, says: str
) -> None:
    if status:
        run(tmp_path, "2026-1", status)
    with pytest.raises(ConfigError, match=says):
        choose_run_folder("fit", tmp_path, "row", 1, "last")


def test_a_run_that_still_runs_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "row/2026-1"
    record = RunRecord.open(folder, command="fit", status="running", seed=1, started="1")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints/last.ckpt").touch()
    with pytest.raises(ConfigError, match="is still running"):
        choose_run_folder("fit", tmp_path, "row", 1, "last")
    record.close()


@pytest.mark.parametrize("name", ["last", "best"])
def test_evaluation_takes_the_newest_checkpoint_of_that_name(tmp_path: Path, name: str) -> None:
    wanted = run(tmp_path, "2026-1", "finished", checkpoint=name)
    run(tmp_path, "2026-2", "finished", checkpoint="other")
    chosen = choose_run_folder("test", tmp_path, "row", 1, name)
    assert chosen.checkpoint == str(wanted / f"checkpoints/{name}.ckpt")
    assert chosen.path != wanted


def test_fitting_from_an_unfinished_runs_checkpoint_continues_in_its_folder(
    tmp_path: Path,
) -> None:
    folder = run(tmp_path, "2026-1", "interrupted")
    checkpoint = str(folder / "checkpoints/last.ckpt")
    assert choose_run_folder("fit", tmp_path, "row", 1, checkpoint).path == folder
    assert choose_run_folder("test", tmp_path, "row", 1, checkpoint).path != folder


def test_fitting_from_a_finished_runs_checkpoint_is_a_new_run(tmp_path: Path) -> None:
    folder = run(tmp_path, "2026-1", "finished")
    checkpoint = str(folder / "checkpoints/last.ckpt")
    assert choose_run_folder("fit", tmp_path, "row", 1, checkpoint).path != folder


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no checkpoint .*none.ckpt"):
        choose_run_folder("fit", tmp_path, "row", 1, str(tmp_path / "none.ckpt"))


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job step of SLURM's."""
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "row")


@pytest.mark.usefixtures("slurm")
@pytest.mark.parametrize("command", ["test", "validate", "predict"])
@pytest.mark.parametrize("name", ["last", "best"])
def test_an_evaluation_that_was_requeued_finds_its_checkpoint_again(
    tmp_path: Path, command: str, name: str
) -> None:
    trained = run(tmp_path, "2026-1", "finished", checkpoint=name)
    first = choose_run_folder(command, tmp_path, "row", 1, name)
    assert first.checkpoint == str(trained / f"checkpoints/{name}.ckpt")
    RunRecord.open(first.path, command=command, status="interrupted", seed=1, started="2").close()
    assert choose_run_folder(command, tmp_path, "row", 1, name) == first


@pytest.mark.usefixtures("slurm")
def test_a_fit_from_a_checkpoint_that_was_requeued_does_not_begin_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(tmp_path, "2026-1", "interrupted", checkpoint="best")
    best, last = (str(folder / f"checkpoints/{name}.ckpt") for name in ("best", "last"))
    assert choose_run_folder("fit", tmp_path, "row", 1, best) == (folder, best)
    Path(last).touch()
    assert choose_run_folder("fit", tmp_path, "row", 1, best) == (folder, best)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert choose_run_folder("fit", tmp_path, "row", 1, best) == (folder, last)


@pytest.mark.usefixtures("slurm")
def test_a_slurm_job_that_was_requeued_continues_its_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "2026-1", "interrupted")
    first = choose_run_folder("fit", tmp_path, "row", 1, None)
    assert first.path == tmp_path / "row/slurm-77-0"
    folder = run(tmp_path, "slurm-77-0", "interrupted", checkpoint="")
    assert choose_run_folder("fit", tmp_path, "row", 1, None) == (folder, None)
    (folder / "checkpoints/last.ckpt").touch()
    again = choose_run_folder("fit", tmp_path, "row", 1, None)
    assert again == (folder, str(folder / "checkpoints/last.ckpt"))
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert choose_run_folder("fit", tmp_path, "row", 1, None).path == tmp_path / "row/slurm-77-1"
