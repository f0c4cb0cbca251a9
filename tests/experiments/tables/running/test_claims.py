import subprocess
import sys
from pathlib import Path

import pytest

from experiments.tables.running.claims import Claim, claim_file
from experiments.tables.table_files import load_table

# Takes the claim, has a process of its own keep it open, and says so.
TAKE = """\
import subprocess, sys, time
from pathlib import Path
from experiments.tables.running.claims import Claim
claim = Claim.take(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], pass_fds=(claim.fileno(),))
print(child.pid, flush=True)
time.sleep(60)
"""


def test_only_one_has_a_claim_and_the_next_one_can_take_it(tmp_path: Path) -> None:
    path = tmp_path / "row/claim"
    assert not Claim.is_taken(path)
    first = Claim.take(path)
    assert first is not None
    assert Claim.is_taken(path)
    assert Claim.take(path) is None
    first.release()
    assert not path.exists()
    second = Claim.take(path)
    assert second is not None
    second.release()


def test_a_claim_outlives_its_killed_process_as_long_as_the_run_that_it_has_started(
    tmp_path: Path, repository: Path
) -> None:
    path = tmp_path / "claim"
    words = [sys.executable, "-c", TAKE, str(path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=repository) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        process.kill()
        process.wait()
        assert Claim.take(path) is None
        subprocess.run(["kill", "-KILL", run], check=True)
        claim = next((c for _ in range(100) if (c := Claim.take(path))), None)
    assert claim is not None
    claim.release()


def test_a_claim_is_of_a_row_a_seed_and_what_matters_in_the_config(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline, operator = load_table("small").rows
    here = claim_file(Path("runs"), operator, {"a": 1}, 7)
    assert here == claim_file(Path("runs"), operator, {"a": 1, "wandb": "offline"}, 7)
    others = [
        claim_file(Path("runs"), operator, {"a": 1}, 8),
        claim_file(Path("runs"), operator, {"a": 2}, 7),
        claim_file(Path("runs"), baseline, {"a": 1}, 7),
    ]
    assert len({here, *others}) == 4
