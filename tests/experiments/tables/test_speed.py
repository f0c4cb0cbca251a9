from pathlib import Path

import pytest

from experiments.bench.ledger import Line, update_ledger
from experiments.tables.speed import speed_columns, times_of_images

HARDWARE = "Made Up CPU 2 threads, fp32"


def line(row: str, **facts: object) -> Line:
    """A line of a ledger; no number here was measured."""
    made_up = {
        "subject": row,
        "row": row,
        "batch": 1,
        "size": "224x224",
        "what": "forward",
        "fused": "",
        "median_ms": 12.5,
        "iqr_ms": 0.5,
        "images_per_second": 80.0,
        "peak_mib": 1.0,
        "ratio": None,
        "baseline": "",
        "rounds": 7,
        "threads": 2,
        "device": "cpu",
        "machine": "Made Up CPU",
        "precision": "fp32",
        "layout": "nchw",
        "compiled": "no",
        "cudnn_benchmark": "",
        "versions": "",
        "commit": "",
    }
    return Line(**(made_up | facts))  # type: ignore[arg-type]


@pytest.fixture
def ledgers(tmp_path: Path) -> Path:
    cpu = [
        line("own/plain"),
        line("own/plain", batch=16, images_per_second=1234.5),
        line("own/operator", fused="yes", median_ms=25.0),
        line("own/operator", fused="no", median_ms=50.0),
        line("another/table", batch=64),
    ]
    update_ledger(tmp_path / "forward-cpu_made_up_2t-torch2.15-fp32-nchw.csv", cpu)
    gpu = line("own/plain", device="cuda", machine="Made Up GPU", layout="nhwc", median_ms=0.5)
    update_ledger(tmp_path / "forward-cuda_made_up-torch2.15-fp32-nhwc.csv", [gpu])
    step = line("own/operator", what="step", batch=16, fused="", images_per_second=10.0)
    update_ledger(tmp_path / "step-cpu_made_up_2t-torch2.15-fp32-nchw.csv", [step])
    (tmp_path / "speed.csv").write_text("no ledger\n")
    return tmp_path


def test_versions_are_columns_of_their_own(tmp_path: Path) -> None:
    for version, ms in (("2.9", 99.0), ("2.15", 31.0)):
        lines = [line("own/plain", versions=f"torch {version}", median_ms=ms)]
        update_ledger(tmp_path / f"forward-cpu_made_up_2t-torch{version}-fp32-nchw.csv", lines)
    assert speed_columns(["own/plain"], tmp_path) == {
        f"forward ms, {HARDWARE}, batch 1, torch 2.15": ["31.0"],
        f"forward ms, {HARDWARE}, batch 1, torch 2.9": ["99.0"],
    }


def test_columns_name_the_hardware_and_have_a_cell_for_each_row(ledgers: Path) -> None:
    assert speed_columns(["own/plain", None, "own/operator"], ledgers) == {
        f"forward ms, {HARDWARE}, batch 1": ["12.5", "", "25.0"],
        f"forward images/s, {HARDWARE}, batch 16": ["1,234", "", ""],
        "forward ms, Made Up GPU, fp32, channels last, batch 1": ["0.500", "", ""],
        f"forward, unfused ms, {HARDWARE}, batch 1": ["", "", "50.0"],
        f"training step images/s, {HARDWARE}, batch 16": ["", "", "10.0"],
    }


def test_sizes_are_named_where_they_differ(ledgers: Path) -> None:
    file = ledgers / "forward-cpu_made_up_2t-torch2.15-fp32-nchw.csv"
    update_ledger(file, [line("own/plain", size="128x128", median_ms=4.0)])
    columns = speed_columns(["own/plain"], ledgers)
    assert columns[f"forward ms, {HARDWARE}, batch 1, 128x128 px"] == ["4.00"]
    assert columns[f"forward ms, {HARDWARE}, batch 1, 224x224 px"] == ["12.5"]


def test_a_table_without_measured_rows_has_no_such_columns(ledgers: Path, tmp_path: Path) -> None:
    assert speed_columns(["own/unmeasured", None], ledgers) == {}
    assert speed_columns(["own/plain"], tmp_path / "none") == {}


def test_deployed_networks_are_compared_where_most_of_them_were_timed(ledgers: Path) -> None:
    where, times = times_of_images(["own/plain", "own/operator"], ledgers)
    assert where == f"{HARDWARE}, batch 1"
    assert times == {"own/plain": 0.0125, "own/operator": 0.025}
    assert times_of_images(["own/unmeasured"], ledgers) == ("", {})
