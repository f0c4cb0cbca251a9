from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.__main__ import main
from experiments.record import RunRecord

RecordRun = Callable[..., RunRecord]
Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("networks")


@pytest.fixture
def half_a_point(content: dict[str, Any], write_table: Callable[..., Path]) -> Path:
    """The made-up table, that expects half a point at most."""
    content["reproduce"]["expected"] = {"below": 0.5, "above": 0.5}
    return write_table(content)


def lines(capsys: Capture) -> list[str]:
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_number_in_its_band_passes(
    record_run: RecordRun, half_a_point: Path, capsys: Capture
) -> None:
    record_run("operator", 7, 0.91)
    assert main(["table", "check", "small"]) == 0
    found = lines(capsys)
    assert "baseline avg 90.250 89.750 to 90.750 not run" in found
    assert "operator avg 91.125 91.000 90.625 to 91.625 within" in found
    assert "small: 2 numbers checked, 0 not as expected" in found


def test_a_number_outside_its_band_fails_and_is_explained(
    record_run: RecordRun, half_a_point: Path, capsys: Capture
) -> None:
    record_run("operator", 7, 0.90)
    assert main(["table", "check", "small"]) == 1
    found = lines(capsys)
    assert "operator avg 91.125 90.000 90.625 to 91.625 below: one seed only" in found
    assert "small: 2 numbers checked, 1 not as expected" in found


def test_rows_without_runs_fail_only_if_runs_are_required(half_a_point: Path) -> None:
    assert main(["table", "check", "small"]) == 0
    assert main(["table", "check", "small", "--require-runs"]) == 1


def with_parameters(content: dict[str, Any], published: float, **row: Any) -> dict[str, Any]:
    content["columns"].append(
        {"name": "params", "unit": "M", "meaning": "parameters", "better": None}
    )
    content["rows"][0]["values"]["params"] = published
    content["rows"][1]["values"]["params"] = None
    content["rows"][0] |= row
    return content


@pytest.mark.parametrize(
    ("published", "row", "status", "verdict"),
    [
        (0.001, {}, 0, "agrees"),
        (0.002, {}, 1, "differs"),
        (0.002, {"computed_otherwise": {"params": "a bias"}}, 0, "differs as known: a bias"),
        (
            0.001,
            {"computed_otherwise": {"params": "a bias"}},
            1,
            "agrees, but the table says otherwise: a bias",
        ),
    ],
)
def test_computed_numbers_are_checked_too(
    content: dict[str, Any],
    write_table: Callable[..., Path],
    capsys: Capture,
    published: float,
    row: dict[str, Any],
    status: int,
    verdict: str,
) -> None:
    write_table(with_parameters(content, published, **row))
    assert main(["table", "check", "small"]) == status
    assert f"baseline params {published} 0.00100 {verdict}" in lines(capsys)


def test_definitions_are_checked_against_what_was_published(capsys: Capture) -> None:
    assert main(["table", "check", "depthwise_separable_cost"]) == 0
    assert "depthwise_separable_cost: 8 numbers checked, 0 not as expected" in lines(capsys)


def test_a_wrong_table_is_a_wrong_usage(table: Path, capsys: Capture) -> None:
    assert main(["table", "check", "small", "smal"]) == 2
    assert not capsys.readouterr().out
