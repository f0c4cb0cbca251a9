"""How checkpoints are written and read: never half of one, never code."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins import TorchCheckpointIO

from experiments.whole_file import whole_file


class SafeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint aside and renames it; reads tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint`; whatever happens, `path` is a whole checkpoint, old or new.

        Raises:
            OSError: It could not be written (disk full, for example); what was there stays.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with whole_file(path) as aside, open(aside, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:
            # torch's zip writer hides the disk's own complaint; the file knows it better.
            raise _disk_error(path, error) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read a checkpoint; refuses one that holds anything but tensors and plain values.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no checkpoint, is cut short, or holds code.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"no checkpoint {path}")
        try:
            return dict(torch.load(path, map_location=map_location or "cpu", weights_only=True))
        except pickle.UnpicklingError as error:
            raise ValueError(
                f"{path} is refused: it holds more than tensors and plain values "
                f"({str(error).strip().splitlines()[-1]})"
            ) from error
        except (RuntimeError, EOFError, ValueError, TypeError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "cut short"
            raise ValueError(f"{path} is no readable checkpoint: {reason}") from error


def _disk_error(path: Path, error: RuntimeError) -> OSError:
    free = os.statvfs(path.parent)
    if free.f_bavail * free.f_frsize < 2**20:
        return OSError(28, "No space left on device", str(path))
    return OSError(f"could not write {path}: {error}")
