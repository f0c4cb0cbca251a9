"""Says that this machine lacks the devices that were asked for."""

from typing import Any

import torch

from experiments.compose import ConfigError
from experiments.config_errors import Place


def no_such_devices(trainer: Any, place: Place) -> ConfigError | None:
    """What to say where this machine lacks the GPUs that were asked for; None if it has them.

    Args:
        trainer: The Trainer's config.
        place: Says where a dotted key was set, None if nowhere.
    """
    if trainer.accelerator not in ("gpu", "cuda"):
        return None
    present, wanted = torch.cuda.device_count(), trainer.devices
    if not present:
        return _error(trainer, "accelerator", place, "no GPU that torch can use", "cpu")
    if str(wanted).isdigit() and int(wanted) > present:
        have = "1 GPU" if present == 1 else f"{present} GPUs"
        return _error(trainer, "devices", place, have, str(present))
    return None


def _error(trainer: Any, name: str, place: Place, have: str, give: str) -> ConfigError:
    key = f"trainer.{name}"
    where = place(key)
    return ConfigError(
        f"{f'{where}: ' if where else ''}{key} is {getattr(trainer, name)}, but this machine has "
        f"{have}; give --{key} {give}"
    )
