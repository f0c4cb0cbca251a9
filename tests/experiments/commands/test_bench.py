from pathlib import Path

import pytest
import torch

from experiments.__main__ import main
from experiments.bench.conditions import Conditions
from experiments.bench.contenders import contenders, workload
from experiments.bench.ledger import Line, read_ledger
from experiments.bench.subjects import find_subject

DO_CONV = "do_conv/mnist_pytorch/do_conv"
BASELINE = "do_conv/mnist_pytorch/baseline"
QUICK = ["--threads", "1", "--sample-seconds", "0"]


@pytest.fixture(autouse=True)
def in_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def bench(out: Path, *words: str) -> list[Line]:
    assert main(["bench", *words, *QUICK, "--out", str(out)]) == 0
    return [line for file in sorted(out.iterdir()) for line in read_ledger(file)]


def test_a_ledger_has_each_form_at_each_batch(tmp_path: Path) -> None:
    lines = bench(tmp_path, DO_CONV, "--batch", "1", "2", "--baseline", "mnist_demo_pytorch")
    found = [(line.subject, line.batch, line.fused) for line in lines]
    forms = [(DO_CONV, "no"), (DO_CONV, "yes"), ("mnist_demo_pytorch", "")]
    assert found == [(name, batch, form) for batch in (1, 2) for name, form in forms]
    for line in lines:
        assert line.row == (DO_CONV if line.subject == DO_CONV else "")
        assert line.size == "28x28"
        assert line.rounds == 7
        assert line.threads == 1
        assert line.images_per_second == pytest.approx(line.batch / line.median_ms * 1e3, rel=2e-3)
        assert line.peak_mib > 0
        assert line.baseline == "mnist_demo_pytorch"
        assert torch.__version__.split("+")[0] in line.versions
    assert [line.ratio for line in lines if not line.row] == [1.0, 1.0]


def test_timing_again_replaces_the_subjects_lines(tmp_path: Path) -> None:
    before = bench(tmp_path, "mnist_demo_pytorch", "mnist_demo_gluoncv")
    after = bench(tmp_path, "mnist_demo_gluoncv", "--rounds", "8")
    assert [(line.subject, line.rounds) for line in after] == [
        ("mnist_demo_pytorch", 7),
        ("mnist_demo_gluoncv", 8),
    ]
    assert after[0] == before[0]


def test_a_table_is_narrowed_to_rows_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("do_conv_mnist_pytorch", "--rows", "do_conv", "--fused", "--size", "14")
    (line,) = bench(tmp_path, *words)
    assert (line.subject, line.size, line.fused, line.ratio) == (DO_CONV, "14x14", "yes", None)
    printed = capsys.readouterr().out
    assert DO_CONV in printed
    assert "fused" in printed
    assert str(next(tmp_path.iterdir())) in printed


@pytest.mark.parametrize("what", ["training", "step"])
def test_training_takes_the_network_that_is_trained(what: str, tmp_path: Path) -> None:
    (line,) = bench(tmp_path, DO_CONV, "--what", what, "--batch", "2", "--precision", "bf16")
    assert (line.what, line.fused, line.precision) == (what, "", "bf16")


def test_other_conditions_go_into_other_ledgers(tmp_path: Path) -> None:
    bench(tmp_path, "mnist_demo_pytorch")
    bench(tmp_path, "mnist_demo_pytorch", "--channels-last")
    bench(tmp_path, "mnist_demo_pytorch", "--precision", "bf16")
    endings = {"-".join(file.stem.split("-")[-2:]) for file in tmp_path.iterdir()}
    assert endings == {"fp32-nchw", "fp32-nhwc", "bf16-nchw"}


def test_fused_and_unfused_compute_the_same() -> None:
    unfused, fused = contenders(find_subject(DO_CONV), Conditions())
    assert (unfused.form, fused.form) == ("unfused", "fused")
    outputs = [workload(each, 2, Conditions())() for each in (unfused, fused)]
    assert all(isinstance(output, torch.Tensor) for output in outputs)
    images = torch.randn(2, 1, 28, 28)
    torch.testing.assert_close(unfused.network(images), fused.network(images))


def test_a_forward_pass_keeps_no_gradients_and_a_step_moves_the_weights() -> None:
    (plain,) = contenders(find_subject(BASELINE), Conditions())
    before = [parameter.clone() for parameter in plain.network.parameters()]
    output = workload(plain, 2, Conditions())()
    assert isinstance(output, torch.Tensor)
    assert not output.requires_grad
    assert not plain.network.training
    passes = Conditions("training")
    workload(plain, 2, passes)()
    assert all(parameter.grad is not None for parameter in plain.network.parameters())
    assert all(map(torch.equal, before, plain.network.parameters()))
    workload(plain, 2, Conditions("step"))()
    assert not all(map(torch.equal, before, plain.network.parameters()))


def test_a_row_that_mixes_images_is_stepped_with_mixed_images() -> None:
    (row,) = contenders(find_subject("imagenet/deit_ti_cutmix"), Conditions("step"), side=32)
    mixer = row.classifier.mixer
    assert mixer is not None
    seen = []

    def watch(images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(len(images))
        mixed: tuple[torch.Tensor, torch.Tensor] = mixer(images, targets)
        return mixed

    row.classifier.mixer = watch  # type: ignore[assignment]
    workload(row, 2, Conditions("step"))()
    assert seen == [2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "resnet18", "--device", "cuda"]) == 2
    assert capsys.readouterr().err == (
        "error: this machine has no GPU that torch can use; give --device cpu\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["resnet81"], "did you mean 'resnet18'"),
        (["resnet18", "--precision", "fp16"], "--precision fp16 needs a GPU (--device cuda)"),
        (["resnet18", "--cudnn-benchmark"], "--cudnn-benchmark is for --device cuda"),
        (["resnet18", "--rounds", "6"], "'6' is no whole number from 7 on"),
        (["resnet18", "--fused", "--what", "step"], "--fused is for --what forward"),
        (["resnet18", "--what", "backward"], "invalid choice: 'backward'"),
        (["mnist_demo_tensorflow", "--size", "14"], "takes no images of 14x14"),
        (["speed", "kw1x_resnet81"], "no item is called 'kw1x_resnet81'"),
    ],
)
def test_wrong_usage_gets_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["bench", *words, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
