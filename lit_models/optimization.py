"""Optimiser and learning-rate schedule, as settings that a config can name."""

import difflib
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import timm.optim
import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerSettings:
    """What timm's optimiser factory is asked for.

    Args:
        name: timm's name of the optimiser. Mind that timm's `sgd` has Nesterov momentum and that
            `momentum` is plain SGD with (or, at momentum 0, without) momentum.
        lr: Base learning rate.
        weight_decay: Weight decay.
        momentum: Momentum, where the optimiser has one.
        decay_norm_and_bias: Decay one-dimensional parameters (norms, biases) too.
        layer_decay: Factor of the learning rate from one layer to the one below it.
        args: Further arguments of the optimiser, for example `{betas: [0.9, 0.95], eps: 1.0e-7}`.
    """

    name: str = "momentum"
    lr: float = 0.1
    weight_decay: float = 0.0
    momentum: float = 0.9
    decay_norm_and_bias: bool = False
    layer_decay: float | None = None
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ScheduleSettings:
    """Learning rate as a function of the optimisation step.

    Recipes that read the same differ in the arithmetic of the library that ran them:

    - `dino` (DINO, KernelWarehouse): the rate changes at every step. The last step of the warm-up
      already has the base rate; the cosine begins after it and never quite reaches the final rate.
    - `gluoncv`: the same, but the last step of the cosine has the final rate.
    - `timm` (timm, DeiT): the rate changes once an epoch. It reaches the base rate when the warm-up
      is over, and the cosine runs from epoch 0, under the warm-up.

    Args:
        name: `constant`, `step` (divided at milestones) or `cosine`, each after the warm-up.
        warmup_epochs: Length of the linear warm-up, in epochs.
        warmup_lr: Rate of the first warm-up step.
        final_lr: Rate that the cosine approaches.
        milestones: Epochs after which `step` multiplies the rate by `gamma`, counted from the
            start of training.
        gamma: Factor at a milestone.
        arithmetic: Whose, of the above.
    """

    name: Literal["constant", "step", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    final_lr: float = 0.0
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1
    arithmetic: Literal["dino", "gluoncv", "timm"] = "dino"

    def rate(self, step: int, base_lr: float, steps_per_epoch: float, total_steps: int) -> float:
        """Learning rate of optimisation step `step` (from 0), a pure function of its arguments."""
        if self.arithmetic == "timm":
            # Where steps do not divide into epochs, rounding must not put a step an epoch back.
            epoch = math.floor(step / steps_per_epoch + 1e-9)
            if epoch < self.warmup_epochs:
                return self._warm(epoch / self.warmup_epochs, base_lr)
            progress = epoch * steps_per_epoch / total_steps
            return self._decayed(step, base_lr, steps_per_epoch, progress)
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self._warm(step / max(1, warmup - 1), base_lr)
        last = total_steps - (1 if self.arithmetic == "gluoncv" else 0)
        progress = (step - warmup) / max(1, last - warmup)
        return self._decayed(step, base_lr, steps_per_epoch, progress)

    def _warm(self, share: float, base_lr: float) -> float:
        return self.warmup_lr + (base_lr - self.warmup_lr) * share

    def _decayed(self, step: int, base_lr: float, steps_per_epoch: float, progress: float) -> float:
        """The rate after the warm-up, with `progress` of the cosine over."""
        if self.name == "step":
            passed = sum(step >= round(epoch * steps_per_epoch) for epoch in self.milestones)
            return base_lr * self.gamma**passed
        if self.name == "cosine":
            swing = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
            return self.final_lr + (base_lr - self.final_lr) * swing
        return base_lr


def build_optimizer(
    network: nn.Module | list[dict[str, Any]], settings: OptimizerSettings
) -> torch.optim.Optimizer:
    """Return the optimiser of `network`'s parameters, grouped by decay (and layer).

    Args:
        network: The network, or groups of its parameters, each with what differs from the settings.
        settings: The settings.

    Raises:
        ValueError: If timm knows no such optimiser.
    """
    known = [str(name) for name in timm.optim.list_optimizers()]
    if settings.name.lower() not in known:
        near = difflib.get_close_matches(settings.name, known, n=3)
        raise ValueError(
            f"no optimizer is called {settings.name!r}; nearest: {', '.join(near) or 'none'}"
        )
    return timm.optim.create_optimizer_v2(
        network,
        opt=settings.name,
        lr=settings.lr,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
        filter_bias_and_bn=not settings.decay_norm_and_bias,
        layer_decay=settings.layer_decay,
        **settings.args,
    )


class _Schedule(torch.optim.lr_scheduler.LambdaLR):
    """Rates by the settings of now, also where a run goes on that was begun with others."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the saved step."""
        own = self.base_lrs
        super().load_state_dict(state_dict)
        self.base_lrs = own
        for group, base, factor in zip(
            self.optimizer.param_groups, own, self.lr_lambdas, strict=True
        ):
            group |= {"initial_lr": base, "lr": base * factor(self.last_epoch)}
        self._last_lr = [group["lr"] for group in self.optimizer.param_groups]


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    settings: ScheduleSettings,
    base_lr: float,
    steps_per_epoch: float,
    total_steps: int,
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a per-step scheduler; a group's `lr_scale` (layer decay) multiplies its rate."""
    for group in optimizer.param_groups:
        # LambdaLR multiplies a group's initial rate, so the factor below is relative to base_lr.
        group["lr"] = base_lr * group.get("lr_scale", 1.0)
    return _Schedule(
        optimizer,
        lambda step: settings.rate(step, base_lr, steps_per_epoch, total_steps) / base_lr,
    )
