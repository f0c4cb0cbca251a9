"""Every mistake in a config or on the command line is answered by one line."""

from pathlib import Path

import pytest

from experiments.__main__ import main

BASE = """\
model:
  class_path: lit_models.ImageClassifier
  init_args:
    backbone: mnist_demo_pytorch
data:
  class_path: datamodules.DigitsDataModule
trainer:
  max_epochs: 1
  accelerator: cpu
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["fit", *arguments]) in (1, 2)
    lines = capsys.readouterr().err.strip().splitlines()
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert lines[-1] == line
    return line.removeprefix("error: ")


MISTAKES = [
    (
        "trainer:\n  max_epoch: 3",
        "row.yaml:3: no option is called trainer.max_epoch; did you mean trainer.max_epochs?",
    ),
    (
        "trainr: {max_epochs: 3}",
        "row.yaml:2: no option is called trainr.max_epochs; did you mean trainer.max_epochs?",
    ),
    (
        "model:\n  init_args:\n    optimiser: {lr: 3}",
        "row.yaml:4: no option of ImageClassifier is called optimiser; did you mean optimizer?",
    ),
    (
        "model:\n  init_args:\n    optimizer: {lrr: 3}",
        "row.yaml:4: no option of optimizer is called lrr; did you mean lr?",
    ),
    (
        "model:\n  init_args:\n    optimizer: {lr: fast}",
        "row.yaml:4: model.init_args.optimizer.lr is fast; expected float",
    ),
    (
        "model:\n  init_args:\n    label_smoothing: lots",
        "row.yaml:4: model.init_args.label_smoothing is lots; expected float",
    ),
    (
        "trainer:\n  max_epochs: many",
        "row.yaml:3: trainer.max_epochs is many; expected int",
    ),
    (
        "model:\n  class_path: lit_models.ImageClasifier",
        "row.yaml:3: model names no class that exists: ImageClasifier; "
        "did you mean ImageClassifier?",
    ),
    (
        "trainer:\n  callbacks: [{class_path: callbacks.DoConvFusion}]",
        "row.yaml:3: trainer.callbacks names no class that exists: DoConvFusion; "
        "did you mean DoConvFusionCallback?",
    ),
    (
        "data:\n  init_args:\n    batchsize: 3",
        "row.yaml:4: no option of DigitsDataModule is called batchsize; did you mean batch_size?",
    ),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_a_mistake_in_a_file_names_key_place_and_nearest(
    base: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    row = base.with_name("row.yaml")
    row.write_text(f"base: base.yaml\n{text}\n")
    assert error_of(capsys, "--config", str(row)) == f"{row.parent}/{says}"


def test_a_mistake_in_the_base_is_placed_in_the_base(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base.write_text(BASE.replace("max_epochs", "max_epoch"))
    row = base.with_name("row.yaml")
    row.write_text("base: base.yaml\n")
    assert error_of(capsys, "--config", str(row)).startswith(f"{base}:8: ")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (
            ["--trainer.max_epoch", "3"],
            "--trainer.max_epoch is no option; did you mean trainer.max_epochs?",
        ),
        (
            ["--model.init_args.optimizer.lr", "abc"],
            "command line: model.init_args.optimizer.lr is abc; expected float",
        ),
    ],
)
def test_a_mistake_on_the_command_line_says_so(
    base: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    assert error_of(capsys, "--config", str(base), *flags) == says


def test_options_are_not_abbreviated(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is no option" in error_of(capsys, "--config", str(base), "--trainer.max_epo", "3")


def test_nothing_to_run_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert "give --config FILE" in error_of(capsys)


RUN_MISTAKES = [
    (
        ["--model.init_args.backbone", "resnet19"],
        "no network is called 'resnet19'; nearest: resnet",
    ),
    (
        ["--model.init_args.num_classes", "7"],
        "command line: model.init_args.num_classes is 7, but the number of classes of "
        "DigitsDataModule is 10; leave it out",
    ),
    (
        ["--model.init_args.optimizer.name", "adamww"],
        "no optimizer is called 'adamww'; nearest: adamw",
    ),
    (["--data.init_args.batch_size", "0"], "batch_size=0 must be at least 1"),
    (["--ckpt_path", "last"], "nothing to resume: no run of base with seed 0"),
    (["--ckpt_path", "none.ckpt"], "no checkpoint none.ckpt"),
]


@pytest.mark.parametrize(("flags", "says"), RUN_MISTAKES)
def test_a_run_that_cannot_start_says_why(
    base: Path, capsys: pytest.CaptureFixture[str], flags: list[str], says: str
) -> None:
    line = error_of(
        capsys, "--config", str(base), "--runs", str(base.parent / "runs"),
        "--wandb", "disabled", *flags,
    )  # fmt: skip
    assert says in line


def test_a_value_given_by_hand_that_agrees_with_the_data_is_fine(base: Path) -> None:
    from experiments.cli import build

    base.write_text(BASE.replace("mnist_demo_pytorch", "mnist_demo_pytorch\n    num_classes: 10"))
    model, data = build([base])
    assert model.hparams["num_classes"] == 10 == data.num_classes  # type: ignore[attr-defined]
