import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from experiments.compose import ConfigError
from experiments.errors import one_line
from experiments.record import RunRecord
from experiments.tables.running.claims import Claim
from experiments.tables.running.plan_output import show_plan
from experiments.tables.running.planning import Request, Task, plan_runs
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


def request(recipe: Path | None = None, options: Sequence[str] = ()) -> Request:
    return Request(load_table("small"), Path("runs"), recipe, tuple(options))


def plan(
    seeds: int = 1,
    rows: Sequence[str] | None = None,
    asked: Request | None = None,
    first_seed: int | None = None,
) -> list[Task]:
    asked = asked or request()
    return plan_runs(asked, asked.table.select(rows), seeds, first_seed)


def shown(asked: Request, tasks: Sequence[Task], jobs: int = 1) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    show_plan(asked, tasks, console, jobs)
    return console.export_text()


def checkpoint_of(record: RunRecord) -> Path:
    path = record.folder / "checkpoints/last.ckpt"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.fixture
def short(table: Path) -> Path:
    """A recipe with fewer epochs."""
    file = Path("short.yaml")
    file.write_text("trainer: {max_epochs: 3}\n")
    return file


def test_seeds_are_counted_up_from_the_one_in_the_config(table: Path) -> None:
    assert [(task.row.key, task.seed, task.action) for task in plan(2)] == [
        ("baseline", 7, "train"),
        ("baseline", 8, "train"),
        ("operator", 7, "train"),
        ("operator", 8, "train"),
    ]
    assert [task.seed for task in plan(2, ["operator"], first_seed=3)] == [3, 4]


def test_a_run_is_a_fit_of_the_rows_config_with_the_seed(table: Path) -> None:
    asked = Request(load_table("small"), Path("elsewhere"), None, ("--wandb", "offline"))
    (task,) = plan(1, ["operator"], asked)
    assert task.command(asked) == [
        *("-m", "experiments", "fit", "--config", "configs/own/operator.yaml"),
        *("--seed_everything", "7", "--runs", "elsewhere", "--wandb", "offline"),
    ]


def test_finished_runs_are_kept(record_run: RecordRun) -> None:
    record_run("operator", 8)
    assert [task.action for task in plan(2, ["operator"])] == ["train", "keep"]


@pytest.mark.parametrize("status", ["failed", "interrupted", "running"])
def test_what_was_broken_off_without_a_checkpoint_is_redone_and_the_plan_says_why(
    record_run: RecordRun, status: str
) -> None:
    record_run("operator", 7, status=status)
    (task,) = plan(1, ["operator"])
    assert task.action == "train"
    assert ("killed" if status == "running" else status) in task.why


@pytest.mark.parametrize("status", ["interrupted", "running"])
def test_what_was_stopped_from_outside_is_resumed_from_its_own_checkpoint(
    record_run: RecordRun, status: str
) -> None:
    record = record_run("operator", 7, None, status=status, epochs=4)
    checkpoint = checkpoint_of(record)
    (task,) = plan(1, ["operator"])
    assert (task.action, task.checkpoint, task.epochs_done) == ("resume", checkpoint, 4)
    words = task.command(request())
    assert words[words.index("--ckpt_path") + 1] == str(checkpoint)
    record_run("operator", 7)
    assert [task.action for task in plan(1, ["operator"])] == ["keep"]


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (OSError(28, "No space left on device", "last.ckpt"), "resume"),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed. "), "resume"),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]"), "resume"),
        (ValueError("loss is nan at step 3"), "train"),
    ],
)
def test_a_failed_run_is_resumed_where_the_machine_was_the_reason(
    record_run: RecordRun, error: Exception, action: str
) -> None:
    checkpoint_of(record_run("operator", 7, None, status="failed", why=one_line(error)))
    assert [task.action for task in plan(1, ["operator"])] == [action]


def test_an_interrupted_run_with_other_settings_is_not_resumed(record_run: RecordRun) -> None:
    overrides = ("trainer.max_epochs=1",)
    checkpoint_of(record_run("operator", 7, None, overrides, status="interrupted"))
    (task,) = plan(1, ["operator"])
    assert task.action == "train"


def test_a_run_with_other_settings_is_redone_and_the_plan_says_which(
    record_run: RecordRun,
) -> None:
    record_run("operator", 7, overrides=("trainer.max_epochs=1",))
    (task,) = plan(1, ["operator"])
    assert task.action == "train"
    assert task.why == "made-up-001 does not count: trainer.max_epochs was 1, now 15"


def test_a_live_run_is_left_alone(record_run: RecordRun) -> None:
    live = RunRecord.open(record_run("operator", 7, status="running").folder)
    try:
        (task,) = plan(1, ["operator"])
        assert (task.action, task.why) == ("leave", "made-up-001 is running")
    finally:
        live.close()


def test_a_claimed_run_is_left_alone_until_the_claim_is_gone(table: Path) -> None:
    (task,) = plan(1, ["operator"])
    claim = Claim.take(task.claim)
    assert claim is not None
    assert [task.action for task in plan(2, ["operator"])] == ["leave", "train"]
    claim.release()
    assert [task.action for task in plan(2, ["operator"])] == ["train", "train"]


def test_runs_under_a_recipe_and_runs_of_the_row_do_not_count_for_each_other(
    record_run: RecordRun, short: Path
) -> None:
    under = request(short)
    record_run("operator", 7, overrides=("trainer.max_epochs=3",))
    record_run("operator", 8)
    assert [task.action for task in plan(2, ["operator"], under)] == ["keep", "train"]
    assert [task.action for task in plan(2, ["operator"])] == ["train", "keep"]
    (task,) = plan(1, ["operator"], under)
    assert task.command(under)[5:7] == ["--recipe", "short.yaml"]
    assert task.claim != plan(1, ["operator"])[0].claim


def test_the_plan_names_the_recipe_and_where_its_runs_count(short: Path) -> None:
    text = shown(request(short), plan(1, asked=request(short)))
    assert "small: plan, other recipe: short.yaml" in text
    assert "other values of trainer.max_epochs will not count for the table" in text
    assert "table report small --recipe short.yaml" in text
    short.write_text("threads: 1\n")
    text = shown(request(short), plan(1, asked=request(short)))
    assert "short.yaml changes nothing that matters: these runs count" in text


def test_runs_with_options_are_kept_for_the_same_options(record_run: RecordRun) -> None:
    record_run("operator", 7, overrides=("trainer.max_epochs=1",))
    same = request(options=["--trainer.max_epochs", "1"])
    assert [task.action for task in plan(1, ["operator"], same)] == ["keep"]


def test_the_plan_warns_of_options_that_make_runs_not_count(table: Path) -> None:
    options = ["--trainer.max_epochs", "1", "--data.init_args.root", "there"]
    text = shown(request(options=options), plan(1))
    assert "2 of 2 runs to train" in text
    assert "other values of trainer.max_epochs will not count for the table" in text


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ("--runs=x", "--runs=x does not belong after --: `table run` sets it"),
        ("--ckpt_path=last", "`table run` sets it"),
        ("--config=configs/own/operator.yaml", "does not belong after --: there it is a file of"),
    ],
)
def test_options_that_are_set_here_are_refused(table: Path, option: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        request(options=[option]).check()


def test_a_file_of_configs_scale_may_be_among_the_options(record_run: RecordRun) -> None:
    scale = Path("configs/scale/big.yaml")
    scale.parent.mkdir()
    scale.write_text("trainer: {devices: 8}\n")
    asked = request(options=["--config", str(scale)])
    asked.check()
    record_run("operator", 7)
    assert [task.action for task in plan(1, ["operator"], asked)] == ["keep"]
