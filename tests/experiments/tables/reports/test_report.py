import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread

from experiments.record import RunRecord
from experiments.tables.comparison import Comparison, compare
from experiments.tables.reports.report import as_markdown, write_report
from experiments.tables.table_files import load_table

RecordRun = Callable[..., RunRecord]


@pytest.fixture
def comparison(record_run: RecordRun) -> Comparison:
    for seed, below, above in ((7, 0.90, 0.93), (8, 0.91, 0.94), (9, 0.92, 0.95)):
        record_run("baseline", seed, below)
        record_run("operator", seed, above)
    record_run("operator", 10, status="failed", why="no file /home/someone/x")
    record_run("operator", 11, overrides=("trainer.max_epochs=1",))
    return compare(load_table("small"), Path("runs"))


def test_a_report_is_a_text_tables_and_plots(comparison: Comparison, tmp_path: Path) -> None:
    files = write_report(comparison, tmp_path / "results" / "small")
    names = ["report.md", "table.csv", "runs.csv", "table.tex", "plot.png", "plot.svg"]
    assert [file.name for file in files] == names
    assert all(file.is_file() for file in files)
    assert "](plot.png)" in files[0].read_text()


def test_formats_are_chosen(comparison: Comparison, tmp_path: Path) -> None:
    files = write_report(comparison, tmp_path / "small", ["md", "svg"])
    assert sorted((tmp_path / "small").iterdir()) == sorted(files)
    assert "](plot.svg)" in (tmp_path / "small" / "report.md").read_text()


@pytest.mark.usefixtures("networks")
def test_costs_are_plotted_where_they_differ(record_run: RecordRun, tmp_path: Path) -> None:
    comparison = compare(load_table("small"), Path("runs"), costs=True)
    files = write_report(comparison, tmp_path, ["md", "png"])
    assert [file.name for file in files] == ["report.md", "plot.png", "multiply_adds.png"]
    assert "multiply-adds](multiply_adds.png)" in files[0].read_text()


def test_equal_comparisons_give_equal_files(comparison: Comparison, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_report(comparison, tmp_path / name, ["svg"])
    assert (tmp_path / "one/plot.svg").read_text() == (tmp_path / "two/plot.svg").read_text()


def test_the_table_as_csv_has_unrounded_numbers(comparison: Comparison, tmp_path: Path) -> None:
    write_report(comparison, tmp_path, ["csv"])
    plain, ours = csv.DictReader((tmp_path / "table.csv").open())
    assert (plain["row"], plain["avg"], plain["avg_n"]) == ("baseline", "90.25", "3")
    assert float(ours["avg_mean"]) == pytest.approx(94.0)
    assert float(ours["avg_gain"]) == pytest.approx(3.0)
    assert ours["avg_verdict"] == "within"
    assert plain["avg_gain"] == ""


def test_the_text_has_published_beside_reproduced(comparison: Comparison) -> None:
    text = as_markdown(comparison)
    assert "| Plain | 90.250 ± 0.354 | 91.000 ± 1.000 | 3 | +0.750 |" in text
    assert re.search(r"\| Ours \| 91.125 .* \| \+0.875 \| \+3.000 \| \+0.733 to \+5.267 \|", text)


def test_a_number_outside_its_band_stands_out_and_is_explained(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    content["reproduce"]["expected"] = {"below": 0.1, "above": 0.1}
    content["rows"][0]["label"] = "a|b"
    write_table(content)
    record_run("baseline", 7, 0.8)
    text = as_markdown(compare(load_table("small"), Path("runs")))
    assert "| a\\|b | 90.250 ± 0.354 | **80.000** | 1 | **-10.250** |" in text
    assert "## Outside the expected\n\n- a|b: avg below the expected 90.150 to 90.350 %" in text


def test_the_text_says_how_it_was_made(comparison: Comparison) -> None:
    text = as_markdown(comparison)
    assert (
        "Plain: `python -m experiments fit --config configs/own/baseline.yaml "
        "--seed_everything SEED`, seeds 7 to 9" in text
    )
    assert "`python -m experiments table run small --seeds 3`" in text
    assert "hardware: made-up CPU, cores: 2, threads: 1, no GPU" in text
    assert "versions: python 3.11.0, torch 0.0.0" in text
    assert "commit: c0ffeec0ffee\n" in text
    assert "time: 6.0 minutes for 6 runs" in text


def test_different_hardware_is_told_apart(record_run: RecordRun) -> None:
    gpu = {"cpu": "made-up CPU", "cores": 2, "threads": 1, "gpus": ["made-up GPU"] * 2}
    record_run("operator", 7)
    record_run("operator", 8, hardware=gpu, devices={"world_size": 2})
    text = as_markdown(compare(load_table("small"), Path("runs")))
    assert "no GPU (1 run); made-up CPU" in text
    assert "2 x made-up GPU, trained on 2 devices (1 run)" in text


def test_runs_that_do_not_count_are_named_without_places_of_the_machine(
    comparison: Comparison,
) -> None:
    text = as_markdown(comparison)
    assert "- Ours: trainer.max_epochs was 1, now 15 (1 run)" in text
    assert "- Ours: failed (1 run)" in text
    assert "/home" not in text


def test_remarks_appear_only_where_there_are_some(
    content: dict[str, Any], write_table: Callable[..., Path], record_run: RecordRun
) -> None:
    record_run("operator", 7)
    assert "## Remarks" not in as_markdown(compare(load_table("small"), Path("runs")))
    content["remarks"] = ["other random numbers"]
    write_table(content)
    text = as_markdown(compare(load_table("small"), Path("runs")))
    assert "## Remarks\n\n- other random numbers\n" in text


def test_the_runs_file_has_a_line_for_each_run_that_counts(
    comparison: Comparison, tmp_path: Path
) -> None:
    write_report(comparison, tmp_path)
    lines = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert [(line["row"], line["seed"]) for line in lines] == [
        *(("baseline", seed) for seed in "789"),
        *(("operator", seed) for seed in "789"),
    ]
    first = lines[0]
    assert float(first["test/acc1"]) == 0.9
    assert first["run_id"] == "made-up-001"
    assert first["commit"] == "c0ffee" * 6
    assert (first["dirty"], first["epochs"], first["seconds"]) == ("False", "15", "60.0")
    assert (first["cpu"], first["threads"], first["torch"]) == ("made-up CPU", "1", "0.0.0")
    assert first["data_sha256"] == "0" * 64


def test_what_a_record_lacks_is_an_empty_cell(record_run: RecordRun, tmp_path: Path) -> None:
    record_run("operator", 7, parameters={}, git={}, hardware={}, data=None, versions={})
    write_report(compare(load_table("small"), Path("runs")), tmp_path)
    text = (tmp_path / "report.md").read_text()
    (line,) = csv.DictReader((tmp_path / "runs.csv").open())
    assert {line[key] for key in ("images_per_second", "commit", "gpus", "cpu")} == {""}
    assert "None" not in text
    assert "| Ours | 91.125 ± 0.177 | 90.000 | 1 | -1.125 |" in text


def test_without_runs_the_report_has_what_was_published(table: Path, tmp_path: Path) -> None:
    files = write_report(compare(load_table("small"), Path("runs")), tmp_path, ["md", "csv", "tex"])
    assert [file.name for file in files] == ["report.md", "table.csv", "table.tex"]
    text = files[0].read_text()
    assert "| Plain | 90.250 ± 0.354 |" in text
    assert "no run counts yet" in text
    assert "`python -m experiments table run small --seeds 1`" in text


@pytest.mark.parametrize("runs", [1, 3])
def test_the_plot_shows_published_and_reproduced_in_their_colours(
    record_run: RecordRun, tmp_path: Path, runs: int
) -> None:
    for seed in range(7, 7 + runs):
        record_run("operator", seed, 0.9 + seed / 1000)
    write_report(compare(load_table("small"), Path("runs")), tmp_path)
    pixels = (imread(tmp_path / "plot.png")[..., :3] * 255).round().astype(int)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (pixels == colour).all(axis=-1).sum() > 100
