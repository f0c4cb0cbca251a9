from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.session import RunSession


@pytest.mark.parametrize(
    ("given", "advised"),
    [
        (["fit", "--config", "a.yaml"], ["fit --config a.yaml --ckpt_path last"]),
        (["fit", "--ckpt_path", "old.ckpt", "--seed_everything", "3"], ["fit --seed_everything 3"]),
        (["fit", "--config", "a.yaml", "--ckpt_path=old.ckpt"], ["fit --config a.yaml"]),
    ],
)
def test_who_is_interrupted_is_told_to_go_on_from_where_the_run_is(
    given: list[str], advised: list[str]
) -> None:
    session = RunSession.__new__(RunSession)
    session.arguments = SimpleNamespace(given=given)  # type: ignore[assignment]
    session.record = SimpleNamespace(last_checkpoint=Path("run/last.ckpt"))  # type: ignore[assignment]
    told = session.how_to_resume()
    assert "old.ckpt" not in told
    if "old" in " ".join(given):
        advised = [f"{words} --ckpt_path run/last.ckpt" for words in advised]
    assert told.splitlines()[1:] == [f"  python -m experiments {words}" for words in advised]
