"""Real runs of several processes on a CPU, which talk through gloo."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from real_runs import apart, assert_same_end, common, fit_apart, last, newest
from several_processes import TWO, free_port, make_row

from experiments.__main__ import main
from experiments.record import RunRecord

# Every run starts two or three Python processes that import torch.
pytestmark = pytest.mark.slow


@pytest.fixture
def row(tmp_path: Path) -> Path:
    return make_row(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A run of two processes that nothing happened to."""
    row = make_row(tmp_path_factory.mktemp("whole"))
    assert fit_apart(row, "", "", *TWO) == 0
    return newest(row)


@pytest.fixture
def here(row: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The row, whose modules can be imported in this process."""
    monkeypatch.syspath_prepend(row.parent)
    return row


def evaluate(command: str, row: Path, checkpoint: Path | None, *flags: str) -> list[str]:
    config = ["--config", str(row), "--ckpt_path", str(checkpoint)]
    return [command, *config, *common(row), *flags]


def test_the_same_checkpoint_gives_the_same_numbers_on_one_and_on_three_processes(
    whole: RunRecord, here: Path
) -> None:
    """360 images: 8 batches of 50 on one, 18 of 7 on each of three, the last ones not full."""
    words = evaluate("test", here, whole.last_checkpoint)
    assert main(words) == 0
    tested_alone = newest(here)
    alone = tested_alone.facts["metrics"]["test"]
    three = ["--trainer.devices", "3", "--trainer.strategy", "ddp", "--data.eval_batch_size", "7"]
    assert apart(here, ["-m", "experiments", *words, *three]).returncode == 0
    together = newest(here).facts["metrics"]["test"]
    assert newest(here).facts["command"] == "test"
    one, three_together = (
        (run.folder / "confusion_matrix.csv").read_text() for run in (tested_alone, newest(here))
    )
    assert one == three_together
    assert sum(int(n) for line in one.splitlines()[1:] for n in line.split(",")[1:]) == 360
    for name in ("test/acc1", "test/acc1_fused", "test/acc5"):
        assert together[name] == alone[name]
    assert together["test/loss"] == pytest.approx(alone["test/loss"], rel=1e-6)
    # So did the two processes that had trained it, each with statistics of its own.
    assert whole.facts["metrics"]["test"]["test/acc1"] == alone["test/acc1"]
    assert whole.facts["metrics"]["test"]["test/acc1_fused"] == alone["test/acc1_fused"]
    assert 0.3 < alone["test/acc1"] < 1


def test_averaged_weights_are_validated_on_several_processes(whole: RunRecord, here: Path) -> None:
    assert main(evaluate("validate", here, whole.last_checkpoint)) == 0
    with (newest(here).folder / "metrics.csv").open() as file:
        header, values = (line.strip().split(",") for line in file)
    validated = dict(zip(header, values, strict=True))
    assert float(validated["val/acc1"]) == whole.facts["metrics"]["last"]["val/acc1"]


def test_predictions_of_several_processes_are_in_the_datas_order(
    whole: RunRecord, here: Path
) -> None:
    words = evaluate("predict", here, whole.last_checkpoint)
    assert main(words) == 0
    alone = torch.load(newest(here).folder / "predictions.pt", weights_only=True)
    assert apart(here, ["-m", "experiments", *words, *TWO]).returncode == 0
    together = torch.load(newest(here).folder / "predictions.pt", weights_only=True)
    assert together["index"].tolist() == list(range(360))
    torch.testing.assert_close(together, alone)


def test_two_nodes_that_torchrun_starts_give_the_weights_of_one(
    whole: RunRecord, row: Path
) -> None:
    port = str(free_port())
    fit = ["-m", "experiments", "fit", "--config", str(row), *common(row)]
    ends: dict[int, Any] = {}

    def node(rank: int) -> None:
        launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc_per_node", "1"]
        place = ["--node_rank", str(rank), "--master_addr", "127.0.0.1", "--master_port", port]
        scale = ["--trainer.num_nodes", "2", "--trainer.devices", "1", "--trainer.strategy", "ddp"]
        ends[rank] = apart(row, [*launcher, *place, *fit, *scale])

    nodes = [threading.Thread(target=node, args=(rank,)) for rank in (0, 1)]
    for thread in nodes:
        thread.start()
    for thread in nodes:
        thread.join()
    assert [ends[rank].returncode for rank in (0, 1)] == [0, 0], ends
    assert len(os.listdir(row.parent / "runs/row")) == 1
    assert_same_end(newest(row), whole)


@pytest.mark.parametrize(("how", "rank"), [("SIGTERM", 1), ("everybody", 0)])
def test_processes_that_are_signalled_stop_together_and_resume_to_the_same_weights(
    whole: RunRecord, row: Path, how: str, rank: int
) -> None:
    assert fit_apart(row, "train 1:4", how, *TWO, rank=rank) == 130
    struck = newest(row)
    assert struck.state == "interrupted"
    assert last(struck)["global_step"] == 17
    assert fit_apart(row, "", "", *TWO, "--ckpt_path", "last") == 0
    resumed = newest(row)
    assert resumed.folder == struck.folder
    assert_same_end(resumed, whole, rounding=1e-6)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_does_not_leave_the_others_waiting(row: Path, rank: int) -> None:
    assert fit_apart(row, "train 1:4", "SIGKILL", *TWO, rank=rank) != 0
    struck = newest(row)
    assert struck.state in ("failed", "killed")
    assert last(struck)["global_step"] == 12
    if struck.state == "failed":
        assert "another process of this run has ended" in struck.facts["why"]


def test_the_record_has_the_reason_of_whichever_process_failed(row: Path) -> None:
    assert fit_apart(row, "train 1:4", "nan", *TWO, rank=1) != 0
    struck = newest(row)
    assert struck.state == "failed"
    assert struck.facts["why"].startswith("process 1: loss is nan at step 16")
    assert len(struck.facts["samples"]) == 16
    assert last(struck)["global_step"] == 12


# Adam's steps have one size, however small a gradient, so that rounding would show.
SHARDED = """\
base: row.yaml
model:
  class_path: lit_models.ImageClassifier
  init_args:
    backbone: mnist_demo_tensorflow
    optimizer: {name: momentum, lr: 0.05, momentum: 0.9}
trainer:
  max_epochs: 2
  gradient_clip_val: 1.0
  callbacks: [{class_path: sabotage.Saboteur}]
"""
SHARD = (
    *("--trainer.devices", "2"),
    *("--trainer.strategy.class_path", "experiments.sharding.ShardedStrategy"),
)


def test_shards_of_a_network_train_as_the_whole_and_resume(here: Path) -> None:
    sharded = here.with_name("sharded.yaml")
    sharded.write_text(SHARDED)
    flags = (*SHARD, "--data.batch_size", "8")
    assert fit_apart(sharded, "train 1:4", "everybody", *flags) == 130
    assert fit_apart(sharded, "", "", *flags, "--ckpt_path", "last") == 0
    record = newest(sharded)
    config = ["fit", "--config", str(sharded), *common(sharded)]
    # The two processes had every other image each.
    assert main(config) == 0
    whole = newest(sharded)
    assert whole.folder != record.folder
    a, b = last(record), last(whole)
    assert a["state_dict"].keys() == b["state_dict"].keys()
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=1e-3, atol=1e-5)
    assert main(evaluate("test", sharded, record.last_checkpoint)) == 0
    tested = newest(sharded).facts["metrics"]["test"]
    assert tested["test/acc1"] == record.facts["metrics"]["test"]["test/acc1"]


def test_callbacks_that_need_whole_weights_refuse_shards(row: Path) -> None:
    words = ["-m", "experiments", "fit", "--config", str(row), *common(row), *SHARD]
    done = apart(row, words)
    assert done.returncode == 1
    assert "error: DoConvFusionCallback needs whole weights" in done.stderr
