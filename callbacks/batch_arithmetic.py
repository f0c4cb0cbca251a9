"""How many images make a step: said at the start, kept to the published number where asked."""

from typing import Any, Literal

import lightning as L
from lightning.pytorch.utilities import rank_zero_only

from lit_models import NetworkTraining

ScaleLR = Literal["none", "linear"]

# What decides which images are in which batch.
_SHARE = ("devices", "images")


class BatchArithmetic(L.Callback):
    """Compares devices x images x accumulation with the batch that the recipe was published with.

    Args:
        published: Images of a step in the published recipe; None if it states none.
        keep: Accumulate gradients over as many batches as make the published batch.
        scale_lr: `linear` multiplies the learning rate of every step by the batch as a part of the
            published one, where they differ.

    Raises:
        ValueError: The published batch cannot be kept; the message says which batch size would do.
    """

    def __init__(
        self, published: int | None = None, keep: bool = False, scale_lr: ScaleLR = "none"
    ) -> None:
        self.published = published
        self.keep = keep
        self.scale_lr = scale_lr
        self._facts: dict[str, Any] = {}
        self._before: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """What a batch of the data and a step were made of."""
        return {name: self._facts[name] for name in (*_SHARE, "global") if self._facts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember what it was made of before."""
        self._before = state_dict

    def run_facts(self) -> dict[str, Any]:
        """What the run record keeps."""
        return {"batch": self._facts} if self._facts else {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Do the arithmetic, before the optimiser and its schedule are made."""
        batch_size = getattr(getattr(trainer, "datamodule", None), "batch_size", None)
        if stage != "fit" or batch_size is None:
            return
        if self.keep and self.published:
            trainer.accumulate_grad_batches = accumulation(
                self.published, trainer.world_size, batch_size
            )
        images = trainer.world_size * batch_size * trainer.accumulate_grad_batches
        factor = images / self.published if self.published and self.scale_lr == "linear" else 1.0
        if factor != 1 and isinstance(pl_module, NetworkTraining):
            pl_module.scale_learning_rate(factor)
        self._facts = {
            "devices": trainer.world_size,
            "images": batch_size,
            "accumulated": trainer.accumulate_grad_batches,
            "global": images,
            "published": self.published,
            "lr_factor": factor,
        }

    @rank_zero_only
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print it."""
        if not self._facts:
            return
        print(describe(self._facts, int(trainer.num_training_batches)))
        before = self._facts | self._before
        if before["global"] != self._facts["global"]:
            print(
                f"this run was begun with steps of {_count(before['global'], 'image')}: learning "
                "rate and temperature count steps, so they are not where the plan has them now"
            )
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        if progress.current.completed and any(before[n] != self._facts[n] for n in _SHARE):
            was = " x ".join(_count(before[name], name[:-1]) for name in _SHARE)
            print(
                f"this epoch was begun with {was}: the rest of it has images again that it has had "
                "before, and lacks others; the next epoch is whole"
            )


def accumulation(published: int, devices: int, batch_size: int) -> int:
    """Number of batches that make the published batch.

    Raises:
        ValueError: No whole number does.
    """
    together = devices * batch_size
    if published % together == 0:
        return published // together
    made = f"{_count(devices, 'device')} x {_count(batch_size, 'image')} = {together}"
    least = -(-published // together)
    fitting = next(
        (n for n in range(least, published + 1) if published % (devices * n) == 0),
        None,
    )
    if fitting is None:
        raise ValueError(
            f"{made}, and no batch size on {_count(devices, 'device')} makes the published "
            f"{published}; use another number of devices, or --keep_published_batch false"
        )
    raise ValueError(
        f"{made} does not divide the published batch of {published}; give "
        f"--data.init_args.batch_size {published // devices // fitting}, or "
        "--keep_published_batch false"
    )


def describe(facts: dict[str, Any], batches: int) -> str:
    """The arithmetic in one line.

    Args:
        facts: What the run record keeps of it.
        batches: Batches of an epoch on each device.
    """
    accumulated = facts["accumulated"]
    line = f"batch: {_count(facts['devices'], 'device')} x {_count(facts['images'], 'image')}"
    if accumulated > 1:
        line += f" x {accumulated} accumulated"
    line += f" = {facts['global']}"
    if facts["global"] == facts["published"]:
        line += ", as published"
    elif facts["published"]:
        line += f"; published {facts['published']}: "
        if facts["lr_factor"] == 1:
            line += (
                "the learning rate is for that (--keep_published_batch true accumulates to it, "
                "--scale_lr linear scales the rate)"
            )
        else:
            line += f"the learning rate is multiplied by {facts['lr_factor']:g}"
    if rest := batches % accumulated:
        line += f"; the last step of an epoch has {rest} of {accumulated} batches"
    return line


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
