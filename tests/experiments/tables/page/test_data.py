import json
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.record import RunRecord
from experiments.tables.page.data import (
    LEAST_POINTS,
    POINTS_OF_RUN,
    Curves,
    embedded,
    learning_curve,
)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., RunRecord]:
    """Writes a run's `metrics.csv`."""

    def write(*lines: str, name: str = "run") -> RunRecord:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,train/loss,val/acc1", *lines]))
        return RunRecord(folder, {"seed": 7})

    return write


def test_a_curve_has_the_accuracy_in_percent_and_the_loss_of_every_epoch(
    run: Callable[..., RunRecord],
) -> None:
    record = run("0,9,,0.5", "0,9,2.5,", "1,19,,0.75", "1,19,1.25,")
    assert learning_curve(record) == {
        "epochs": [1, 2],
        "accuracy": [50.0, 75.0],
        "loss": [2.5, 1.25],
    }


def test_what_is_no_number_leaves_a_gap(run: Callable[..., RunRecord]) -> None:
    record = run("0,9,nan,0.5", "1,19,inf,0.6", "2,29,,0.7", "3,3")
    assert learning_curve(record)["loss"] == [None, None, None]
    assert learning_curve(record)["accuracy"] == [50.0, 60.0, 70.0]


def test_a_run_that_logged_nothing_has_no_curve(tmp_path: Path) -> None:
    assert learning_curve(RunRecord(tmp_path, {}))["epochs"] == []


def test_a_long_run_is_thinned_and_keeps_its_ends(run: Callable[..., RunRecord]) -> None:
    curve = learning_curve(run(*(f"{epoch},0,1.0,{epoch / 1000}" for epoch in range(450))))
    assert len(curve["epochs"]) == POINTS_OF_RUN
    assert (curve["epochs"][0], curve["epochs"][-1]) == (1, 450)
    assert curve["epochs"] == sorted(set(curve["epochs"]))
    assert curve["accuracy"][-1] == pytest.approx(44.9)


def test_on_a_page_of_many_runs_each_has_fewer_points(run: Callable[..., RunRecord]) -> None:
    epochs = [f"{epoch},0,1.0,0.5" for epoch in range(60)]
    curves = Curves()
    curves.places((run(*epochs, name=f"run{number}") for number in range(900)), counted=True)
    drawn = curves.drawn()
    assert {len(curve["loss"]) for curve in drawn["curves"]} == {LEAST_POINTS}
    assert len(drawn["epochs"]) == 1


def test_a_run_of_two_tables_is_drawn_once(run: Callable[..., RunRecord]) -> None:
    record, curves = run("0,9,2.5,0.5"), Curves()
    assert curves.places([record], counted=True) == [[0, "seed 7", True]]
    assert curves.places([record], counted=False) == [[0, "seed 7", False]]
    assert len(curves.drawn()["curves"]) == 1


def test_json_cannot_end_the_element_it_stands_in() -> None:
    data = {"text": "</script><!--\u2028\u2029"}
    text = embedded(data)
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == data
