"""A logger that keeps media, a Trainer with it, and a look at what operations ask for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import wandb
from lightning.pytorch.loggers.logger import DummyLogger
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result the CPU must know to go on: on a GPU it would wait.
WAITING = ("_local_scalar_dense", "item", "nonzero", "bincount", "_unique2", "masked_select")


class MediaShelf(DummyLogger):
    """Keeps what is logged, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.media: dict[str, Any] = {}

    def log_media(self, step: int, make: Callable[[Any], Mapping[str, Any]]) -> None:
        """Keep media of a step."""
        self.media |= {name: (step, medium) for name, medium in make(wandb).items()}


def quiet_trainer(folder: Path, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    """A Trainer on the CPU that logs to a `MediaShelf`."""
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=MediaShelf(),
        callbacks=list(callbacks),
        enable_model_summary=False,
        enable_checkpointing=False,
        **{"enable_progress_bar": False, **options},
    )


class NothingWaited(TorchDispatchMode):
    """Fails where an operation would have the CPU wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        self.operations += 1
        assert func.overloadpacket.__name__ not in WAITING, func
        return func(*args, **(kwargs or {}))
