from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bench.conditions import Conditions
from experiments.bench.ledger import (
    Line,
    circumstances,
    ledger_name,
    per_second,
    read_ledger,
    three_digits,
    update_ledger,
)
from experiments.compose import ConfigError

# Made up: nothing was measured.
LINE = Line(
    subject="own/row",
    row="own/row",
    batch=1,
    size="28x28",
    what="forward",
    fused="yes",
    median_ms=1.5,
    iqr_ms=0.25,
    images_per_second=666.7,
    peak_mib=2.5,
    ratio=None,
    baseline="",
    rounds=7,
    threads=2,
    device="cpu",
    machine="Made Up(R) CPU @ 2.00GHz",
    precision="fp32",
    layout="nchw",
    compiled="no",
    cudnn_benchmark="",
    versions="python 3.11.0, torch 2.15.0, timm 1.0.0",
    commit="0123456789ab",
)
FACTS = {
    "hardware": {"cpu": "Made Up(R) CPU @ 2.00GHz", "gpus": ["Made Up GPU 80GB"]},
    "versions": {"torch": "2.15.0+cu128"},
}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lines = [LINE, replace(LINE, subject="resnet18", row="", fused="", ratio=0.75, baseline="x")]
    update_ledger(tmp_path / "new" / "ledger.csv", lines)
    assert read_ledger(tmp_path / "new" / "ledger.csv") == lines


def test_a_subject_measured_again_replaces_its_line_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "ledger.csv"
    others = [
        replace(LINE, subject="other"),
        replace(LINE, batch=16),
        replace(LINE, fused="no"),
        replace(LINE, size="32x32"),
    ]
    update_ledger(file, [LINE, *others])
    again = replace(LINE, median_ms=9.0)
    update_ledger(file, [again, replace(LINE, subject="new")])
    assert read_ledger(file) == [again, *others, replace(LINE, subject="new")]


def test_a_ledger_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "ledger.csv"
    update_ledger(file, [LINE])
    before = file.read_bytes()

    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("made up")

    with pytest.raises(RuntimeError, match="made up"):
        update_ledger(file, [replace(LINE, subject="other", commit=Unprintable())])  # type: ignore[arg-type]
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_the_name_says_device_torch_precision_and_layout() -> None:
    cpu = Conditions("training", threads=2)
    gpu = Conditions("forward", "cuda", "bf16", channels_last=True, compiled=True)
    assert ledger_name(cpu, FACTS) == (
        "training-cpu_made_up_r_cpu_2_00ghz_2t-torch2.15-fp32-nchw.csv"
    )
    assert ledger_name(gpu, FACTS) == (
        "forward-cuda_made_up_gpu_80gb-torch2.15-bf16-nhwc-compiled.csv"
    )


def test_the_circumstances_name_the_hardware() -> None:
    assert circumstances(LINE) == "Made Up(R) CPU @ 2.00GHz 2 threads, fp32"
    gpu = replace(LINE, device="cuda", machine="GPU", layout="nhwc", compiled="yes")
    assert circumstances(gpu) == "GPU, fp32, channels last, compiled"


def test_a_damaged_ledger_is_named_with_the_line(tmp_path: Path) -> None:
    file = tmp_path / "ledger.csv"
    update_ledger(file, [LINE, replace(LINE, subject="other")])
    file.write_text(file.read_text().replace("666.7", "much", 1))
    with pytest.raises(ConfigError, match=r"ledger.csv:2 is no line of a ledger"):
        read_ledger(file)
    file.write_text("subject,row\na,b\n")
    with pytest.raises(ConfigError, match="there is no column batch"):
        read_ledger(file)


def test_numbers_are_shown_with_three_digits_that_count() -> None:
    assert [three_digits(value) for value in (0.01234, 1.5, 123.4, 12345.0)] == [
        "0.0123",
        "1.50",
        "123",
        "12345",
    ]
    assert [per_second(value) for value in (1.234, 99.9, 12345.6)] == ["1.23", "99.9", "12,346"]
