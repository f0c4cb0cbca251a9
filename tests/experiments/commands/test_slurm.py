import subprocess
from pathlib import Path

import pytest

from experiments import slurm
from experiments.commands.slurm import main, script
from experiments.compose import ConfigError


def options(repository: Path, *more: str) -> list[str]:
    configs = repository / "configs"
    files = (configs / "smoke.yaml", configs / "scale/slurm.yaml")
    return [word for file in files for word in ("--config", str(file))] + list(more)


def test_the_script_asks_for_what_the_run_needs(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = options(repository, "--trainer.devices", "4", "--trainer.num_nodes=2")
    assert main(["slurm", *given, "--", "--time=1:00:00", "--comment=it's"]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[0] == "#!/bin/bash"
    for line in (
        "--job-name=smoke",
        "--nodes=2",
        "--ntasks-per-node=4",
        "--gpus-per-node=4",
        "--signal=SIGUSR1@120",
        "--requeue",
        "--open-mode=append",
        "--time=1:00:00",
    ):
        assert f"#SBATCH {line}" in lines
    assert lines[-1].startswith("srun --kill-on-bad-exit=1 ")
    assert lines[-1].endswith("--trainer.devices 4 --trainer.num_nodes=2")
    subprocess.run(["bash", "-n"], input=printed, text=True, check=True)


def test_a_cpu_job_asks_for_no_gpu(repository: Path) -> None:
    printed = script(options(repository, "--trainer.accelerator", "cpu"), [])
    assert "gpus" not in printed


def test_what_is_wrong_is_said_before_the_job_waits(repository: Path) -> None:
    with pytest.raises(ConfigError, match="is no option"):
        script(options(repository, "--trainer.max_epoch", "3"), [])
    with pytest.raises(ConfigError, match="devices is auto; a batch script needs"):
        script(options(repository, "--trainer.devices", "auto"), [])


@pytest.mark.parametrize(("status", "says"), [("0", "is requeued"), ("1", "could not be requeued")])
def test_the_job_asks_for_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, says: str
) -> None:
    asked = tmp_path / "asked"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {asked}\nexit {status}\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert f"job 12 {says}" in slurm.requeue()
    assert asked.read_text() == "requeue 12\n"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert "job 9_3 " in slurm.requeue()
