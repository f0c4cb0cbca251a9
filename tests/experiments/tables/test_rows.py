from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.compose import ConfigError
from experiments.record import RunRecord
from experiments.tables.rows import RowRuns, asked_for, changes, gather_runs, reasons_against
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


def gather(metric: str | None = "test/acc1") -> RowRuns:
    return gather_runs(load_table("small").rows[1], Path("runs"), metric)


def reasons() -> list[str]:
    (left,) = gather().left_out
    return list(left.reasons)


def test_a_finished_run_of_the_present_config_counts(record_run: RecordRun) -> None:
    record_run("operator", 7)
    found = gather()
    assert list(found.counted) == [7]
    assert found.first_seed == 7
    assert found.left_out == ()


def test_a_run_of_another_row_does_not_appear(record_run: RecordRun) -> None:
    record_run("baseline", 7)
    assert gather().counted == {}


@pytest.mark.parametrize(
    "override",
    [
        "data.init_args.root=/somewhere",
        "data.root=/somewhere",
        "data.init_args.download=false",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "trainer.strategy=ddp",
        "trainer.num_nodes=2",
        "trainer.enable_progress_bar=false",
        "trainer.logger=false",
        "trainer.benchmark=true",
        "model.channels_last=true",
        "model.compile=true",
        "published_batch=32",
        "keep_published_batch=true",
        "threads=2",
        "wandb=offline",
        "runs=elsewhere",
        "ckpt_path=last",
        "trainer.max_epochs=15",
        "model.optimizer.lr=0.01",
    ],
)
def test_overrides_that_change_nothing_that_matters_count(
    record_run: RecordRun, override: str
) -> None:
    record_run("operator", 8, overrides=(override,))
    assert list(gather().counted) == [8]


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("trainer.max_epochs=1", "trainer.max_epochs was 1, now 15"),
        ("trainer.limit_train_batches=10", "trainer.limit_train_batches was 10, now not set"),
        ("model.optimizer.lr=0.1", "model.init_args.optimizer.lr was 0.1, now 0.01"),
        ("data.init_args.batch_size=64", "data.init_args.batch_size was 64, now 32"),
        (
            "data=datamodules.DigitsDataModule",
            "data.class_path was datamodules.DigitsDataModule, now datamodules.MNISTDataModule",
        ),
        ("trainer.callbacks+=x", "trainer.callbacks was ['x'], now not set"),
        ("ckpt_path=elsewhere/last.ckpt", "started from another run's checkpoint"),
    ],
)
def test_an_override_that_matters_is_the_reason_in_words(
    record_run: RecordRun, override: str, reason: str
) -> None:
    record_run("operator", 7, overrides=(override,))
    assert reasons() == [reason]


def test_a_run_in_other_steps_than_the_published_ones_does_not_count(record_run: RecordRun) -> None:
    record_run("operator", 7, batch={"global": 32, "published": 32})
    record_run("operator", 8, batch={"global": 64, "published": None})
    record_run("operator", 9, batch={"global": 64, "published": 32})
    found = gather()
    assert list(found.counted) == [7, 8]
    assert found.left_out[0].reasons == ("a step had 64 images, as published it has 32",)


def test_the_row_says_what_is_published_and_not_the_runs_command_line(
    record_run: RecordRun,
) -> None:
    for said in (None, 64):
        record = record_run("operator", 7, batch={"global": 64, "published": said})
        found = reasons_against(record, {**record.declared, "published_batch": 32})
        assert found == ["a step had 64 images, as published it has 32"]


def test_a_run_whose_metric_is_no_number_does_not_count(record_run: RecordRun) -> None:
    record_run("operator", 7, accuracy=float("nan"))
    assert reasons() == ["test/acc1 is nan"]


def test_a_run_whose_files_named_anothers_checkpoint_does_not_count(record_run: RecordRun) -> None:
    declared = {**record_run("operator", 7).declared, "ckpt_path": "other/checkpoints/last.ckpt"}
    record_run("operator", 8, config={"declared": declared, "overrides": []})
    assert list(gather().counted) == [7]


@pytest.mark.parametrize(
    ("override", "asked"),
    [
        ("model.backbone_args={}", {}),
        ("model.init_args.backbone_args={b: 2}", {"b": 2}),
        ("model.init_args.backbone_args.b=2", {"a": 1, "b": 2}),
        ("model.init_args.backbone_args.c+=3", {"a": 1, "c": [3]}),
    ],
)
def test_a_dictionary_that_is_asked_for_takes_the_place_of_the_one_below(
    override: str, asked: dict[str, Any]
) -> None:
    declared = {"model": {"init_args": {"backbone_args": {"a": 1}}}}
    found = asked_for(declared, [override])
    assert found == {"model": {"init_args": {"backbone_args": asked}}}
    assert declared == {"model": {"init_args": {"backbone_args": {"a": 1}}}}


def test_a_run_resumed_from_its_own_checkpoint_counts(record_run: RecordRun) -> None:
    first = record_run("operator", 7).folder
    record_run("operator", 8, overrides=(f"ckpt_path={first}/checkpoints/last.ckpt",))
    assert list(gather().counted) == [7]
    RunRecord.read(first).update(config={"overrides": [f"ckpt_path={first}/checkpoints/last.ckpt"]})
    assert list(gather().counted) == [7]


def test_a_changed_config_file_makes_old_runs_not_count(record_run: RecordRun) -> None:
    record_run("operator", 7)
    config = Path("configs/own/operator.yaml")
    content = yaml.safe_load(config.read_text())
    content["trainer"] |= {"max_epochs": 20, "gradient_clip_val": 1.0}
    content["seed_everything"] = 100
    config.write_text(yaml.safe_dump(content))
    assert reasons() == [
        "trainer.max_epochs was 15, now 20",
        "trainer.gradient_clip_val was not set, now 1.0",
    ]


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_unfinished_run_does_not_count_and_says_why(record_run: RecordRun, status: str) -> None:
    record_run("operator", 7, status=status, why="loss is nan at step 3")
    assert reasons() == [f"{status}: loss is nan at step 3"]


def test_a_run_whose_process_is_gone_was_killed(record_run: RecordRun) -> None:
    record_run("operator", 7, status="running")
    assert reasons() == ["killed"]
    assert not gather().left_out[0].under_way


def test_a_live_run_is_under_way(record_run: RecordRun) -> None:
    folder = record_run("operator", 7, status="running").folder
    live = RunRecord.open(folder)
    try:
        assert gather().left_out[0].under_way
    finally:
        live.close()


def test_a_live_run_with_other_settings_will_not_count(record_run: RecordRun) -> None:
    overrides = ("trainer.max_epochs=1",)
    live = RunRecord.open(record_run("operator", 7, None, overrides, status="running").folder)
    try:
        assert not gather().left_out[0].under_way
    finally:
        live.close()


def test_a_run_that_was_not_tested_does_not_count(record_run: RecordRun) -> None:
    record_run("operator", 7, accuracy=None)
    assert reasons() == ["test/acc1 is not in its record"]


def test_evaluations_are_no_training_runs(record_run: RecordRun) -> None:
    record_run("operator", 7, command="test")
    assert gather().counted == {}
    assert gather().left_out == ()
    (file,) = Path("runs").rglob("run.json")
    record = RunRecord.read(file.parent)
    assert record is not None
    assert reasons_against(record, record.declared) == ["was test, not fit"]


def test_of_two_finished_runs_of_a_seed_the_newest_counts(record_run: RecordRun) -> None:
    record_run("operator", 7, 0.1)
    newest = record_run("operator", 7, 0.2)
    record_run("operator", 7, status="failed")
    found = gather()
    assert found.counted[7].folder == newest.folder
    assert [left.reasons[0] for left in found.left_out] == ["failed", "a newer run has seed 7"]


def test_many_reasons_are_shortened_to_three(record_run: RecordRun) -> None:
    record_run("operator", 7, overrides=("a=1", "b=1", "c=1", "d=1", "e=1"))
    why = gather().left_out[0].why
    assert why.endswith("c was 1, now not set, and 2 more")


def test_a_seed_that_is_no_number_is_an_error(table: Path) -> None:
    config = Path("configs/own/operator.yaml")
    config.write_text(config.read_text().replace("seed_everything: 7", "seed_everything: true"))
    with pytest.raises(ConfigError, match="seed_everything is True; write a number"):
        gather()


_trees = st.recursive(
    st.integers(0, 3) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    max_leaves=6,
)
_configs = st.dictionaries(st.sampled_from(["trainer", "model", "data"]), _trees, max_size=3)


@settings(deadline=None, max_examples=100)
@given(_configs, _configs)
def test_there_are_no_changes_exactly_between_equal_configs(
    recorded: dict[str, object], declared: dict[str, object]
) -> None:
    assert changes(recorded, [], recorded) == []
    assert (changes(recorded, [], declared) == []) == (recorded == declared)


def test_a_run_that_began_with_other_settings_does_not_count(record_run: RecordRun) -> None:
    declared = record_run("operator", 6).declared
    began = {"declared": declared, "overrides": ["trainer.max_epochs=1"]}
    record_run("operator", 7, earlier_configs=[began])
    (left,) = gather().left_out
    assert left.reasons == ("before it was resumed, trainer.max_epochs was 1, now 15",)


def test_a_run_that_was_resumed_with_the_same_settings_counts(record_run: RecordRun) -> None:
    declared = record_run("operator", 6).declared
    began = {"declared": declared, "overrides": ["runs=elsewhere"]}
    record_run("operator", 7, earlier_configs=[began])
    assert list(gather().counted) == [6, 7]


def test_a_run_that_moved_with_its_folder_still_continues_itself(record_run: RecordRun) -> None:
    record = record_run("operator", 7)
    before = f"ckpt_path=elsewhere/{record.folder.name}/checkpoints/last.ckpt"
    record.update(config={"overrides": [before]})
    assert list(gather().counted) == [7]


def test_a_run_that_began_from_another_runs_checkpoint_does_not_count_once_resumed(
    record_run: RecordRun,
) -> None:
    declared = record_run("operator", 6).declared
    began = {"declared": declared, "overrides": ["ckpt_path=other/checkpoints/last.ckpt"]}
    record_run("operator", 7, earlier_configs=[began])
    assert list(gather().counted) == [6]
