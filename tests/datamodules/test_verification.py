from pathlib import Path

from datamodules import MNISTDataModule
from datamodules.verification import verify_official


def test_the_official_files_are_good(shared_data: Path) -> None:
    data = MNISTDataModule(root=str(shared_data), download=False)
    found = verify_official(data)
    assert found.problems == []
    assert {split: sum(counts.values()) for split, counts in found.counts.items()} == {
        "train": 60000,
        "test": 10000,
    }
    assert list(found.counts["test"]) == list("0123456789")
    assert [*found.counts["test"].values()][:5] == [980, 1135, 1032, 1010, 982]
    assert found.facts["files"] == "all 4 have their official MD5 sums"
    assert found.fingerprint == MNISTDataModule(root=str(shared_data)).fingerprint


def test_files_that_are_not_official_are_problems_and_not_read(
    shared_data: Path, tmp_path: Path
) -> None:
    first, second, *others = sorted((shared_data / "MNIST" / "raw").iterdir())
    (tmp_path / first.name).write_bytes(first.read_bytes()[:-100])
    (tmp_path / second.name).write_bytes(b"")
    for path in others[1:]:
        (tmp_path / path.name).symlink_to(path)
    found = verify_official(MNISTDataModule(root=str(tmp_path), download=False))
    missing, *wrong = found.problems
    assert f"{others[0].name} not found in {tmp_path}" in missing
    assert [line.split(" is truncated ")[0] for line in wrong] == [
        str(tmp_path / first.name),
        str(tmp_path / second.name),
    ]
    assert not any("\n" in line for line in found.problems)
    assert found.counts == {}
    assert found.fingerprint is None
