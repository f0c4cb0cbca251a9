from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.arguments import Arguments
from experiments.compose import Composition
from experiments.session import RunSession


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        ("fit --config a.yaml", "fit --config a.yaml --ckpt_path last"),
        ("fit --ckpt_path old.ckpt --threads 3", "fit --threads 3 --ckpt_path run/last.ckpt"),
        (
            "fit --config a.yaml --ckpt_path=old.ckpt",
            "fit --config a.yaml --ckpt_path run/last.ckpt",
        ),
    ],
)
def test_who_is_interrupted_is_told_to_go_on_from_where_the_run_is(
    given: str, advised: str
) -> None:
    session = RunSession.__new__(RunSession)
    session.arguments = Arguments("fit", given.split(), [], [], [], Composition(()), [])
    session.record = SimpleNamespace(last_checkpoint=Path("run/last.ckpt"))  # type: ignore[assignment]
    told = session.how_to_resume()
    assert "old.ckpt" not in told
    assert told.splitlines()[1:] == [f"  python -m experiments {advised}"]
