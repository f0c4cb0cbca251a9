"""What callbacks show of a run besides numbers: files in its folder, and media in W&B."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn


@runtime_checkable
class MediaLogger(Protocol):
    """A logger that takes pictures, charts and histograms."""

    def log_media(self, step: int, make: Callable[[Any], Mapping[str, Any]]) -> None:
        """Log what `make` makes, given the module `wandb`."""


def log_media(trainer: L.Trainer, make: Callable[[Any], Mapping[str, Any]]) -> None:
    """Give media to the loggers that take them; the first process calls this.

    Args:
        trainer: The Trainer.
        make: Makes the media, given the module `wandb`; by name. It is called once for each logger.
    """
    for logger in trainer.loggers:
        if isinstance(logger, MediaLogger):
            logger.log_media(trainer.global_step, make)


@contextmanager
def writing(what: str) -> Iterator[None]:
    """What is written inside is there to be looked at: a full disk does not end the run."""
    try:
        yield
    except OSError as error:
        rank_zero_warn(f"{what} could not be written ({error}); the run goes on")


def class_names(trainer: L.Trainer, count: int) -> list[str]:
    """Names of the classes if the data module has any, else their numbers."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    names: list[str] | None = getattr(datamodule, "classes", None)
    return list(names) if names else [str(number) for number in range(count)]
