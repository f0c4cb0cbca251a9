import os
from pathlib import Path

import pytest
import torch

from experiments.checkpoint_io import SafeCheckpointIO


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/last.ckpt"
    SafeCheckpointIO().save_checkpoint({"x": torch.arange(3), "step": 4}, path)
    loaded = SafeCheckpointIO().load_checkpoint(path)
    assert loaded["step"] == 4
    assert torch.equal(loaded["x"], torch.arange(3))
    assert os.listdir(path.parent) == ["last.ckpt"]


def test_a_full_disk_leaves_the_old_checkpoint_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"step": 1}, path)

    def half_then_full(checkpoint: object, file: object) -> None:
        file.write(b"half of it")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half_then_full)
    with pytest.raises(OSError, match="No space left"):
        SafeCheckpointIO().save_checkpoint({"step": 2}, path)
    monkeypatch.undo()
    assert SafeCheckpointIO().load_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["last.ckpt"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_the_writers_own_complaint_about_a_full_disk_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / ".last.ckpt.writing").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"last.ckpt|No space"):
        SafeCheckpointIO().save_checkpoint({"x": torch.zeros(100_000)}, tmp_path / "last.ckpt")
    assert not (tmp_path / "last.ckpt").exists()


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/convsuite-payload-ran",)


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": _Payload()}, path)
    with pytest.raises(ValueError, match="is refused: it holds more than tensors"):
        SafeCheckpointIO().load_checkpoint(path, weights_only=False)
    assert not Path("/tmp/convsuite-payload-ran").exists()


@pytest.mark.parametrize("size", [0, 1, 100, 500])
def test_a_checkpoint_cut_short_is_named(tmp_path: Path, size: int) -> None:
    path = tmp_path / "last.ckpt"
    SafeCheckpointIO().save_checkpoint({"x": torch.zeros(100)}, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(
        ValueError, match=r"last.ckpt is no readable checkpoint|is refused"
    ) as error:
        SafeCheckpointIO().load_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "none.ckpt")
