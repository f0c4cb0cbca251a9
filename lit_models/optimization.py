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

    Args:
        name: `constant`, `step` (divided at milestones) or `cosine`, each after the warm-up.
        warmup_epochs: Length of the linear warm-up, in epochs. Its last step already has the base
            rate, as in the schedule of DINO and KernelWarehouse.
        warmup_lr: Rate of the first warm-up step.
        final_lr: Rate that the cosine approaches.
        milestones: Epochs after which `step` multiplies the rate by `gamma`.
        gamma: Factor at a milestone.
    """

    name: Literal["constant", "step", "cosine"] = "constant"
    warmup_epochs: float = 0.0
    warmup_lr: float = 0.0
    final_lr: float = 0.0
    milestones: list[float] = field(default_factory=list)
    gamma: float = 0.1

    def rate(self, step: int, base_lr: float, steps_per_epoch: float, total_steps: int) -> float:
        """Learning rate of optimisation step `step` (from 0), a pure function of its arguments."""
        warmup = round(self.warmup_epochs * steps_per_epoch)
        if step < warmup:
            return self.warmup_lr + (base_lr - self.warmup_lr) * step / max(1, warmup - 1)
        if self.name == "step":
            passed = sum(step >= round(epoch * steps_per_epoch) for epoch in self.milestones)
            return base_lr * self.gamma**passed
        if self.name == "cosine":
            progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
            swing = 0.5 * (1 + math.cos(math.pi * progress))
            return self.final_lr + (base_lr - self.final_lr) * swing
        return base_lr


def build_optimizer(network: nn.Module, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return the optimiser of `network`'s parameters, grouped by decay (and layer).

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
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: settings.rate(step, base_lr, steps_per_epoch, total_steps) / base_lr,
    )
