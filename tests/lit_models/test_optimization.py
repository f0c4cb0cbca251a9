import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.scheduler import CosineLRScheduler, StepLRScheduler
from torch import nn

from lit_models.optimization import (
    OptimizerSettings,
    ScheduleSettings,
    build_optimizer,
    build_scheduler,
)

# Rates per step of the schedules in KernelWarehouse's training script.
GOLDEN = json.loads((Path(__file__).parent / "golden/schedules.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["cosine_scheduler"])
def test_the_cosine_is_that_of_the_papers_code(case: dict) -> None:
    args, rates = case["args"], case["values"]
    schedule = ScheduleSettings(
        name="cosine",
        warmup_epochs=args["warmup_epochs"],
        warmup_lr=args.get("start_warmup_value", 0.0),
        final_lr=args["final_value"],
    )
    run = (args["base_value"], args["niter_per_ep"], args["epochs"] * args["niter_per_ep"])
    assert [schedule.rate(step, *run) for step in range(len(rates))] == pytest.approx(rates)


def timm_rates(name: str, schedule: ScheduleSettings, base: float, epochs: int) -> list[float]:
    """Rates of timm's own scheduler, epoch by epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=base)
    warmup: dict[str, Any] = {
        "warmup_t": int(schedule.warmup_epochs),
        "warmup_lr_init": schedule.warmup_lr,
        "warmup_prefix": False,  # as in the releases that the papers used
    }
    scheduler = (
        CosineLRScheduler(optimizer, t_initial=epochs, lr_min=schedule.final_lr, **warmup)
        if name == "cosine"
        else StepLRScheduler(optimizer, decay_t=3, decay_rate=schedule.gamma, **warmup)
    )
    return [scheduler._get_lr(epoch)[0] for epoch in range(epochs)]


@pytest.mark.parametrize("name", ["step", "cosine"])
def test_timms_arithmetic_is_timms(name: Literal["step", "cosine"]) -> None:
    schedule = ScheduleSettings(
        name=name,
        warmup_epochs=2,
        warmup_lr=1e-4,
        final_lr=1e-5,
        milestones=[3, 6, 9],
        arithmetic="timm",
    )
    rates = [schedule.rate(step, 0.2, 4, 40) for step in range(40)]
    assert rates[::4] == pytest.approx(timm_rates(name, schedule, 0.2, 10))
    assert all(len(set(rates[epoch : epoch + 4])) == 1 for epoch in range(0, 40, 4))


def test_gluoncvs_cosine_reaches_its_end() -> None:
    schedule = ScheduleSettings(name="cosine", warmup_epochs=1, final_lr=0.1, arithmetic="gluoncv")
    rates = [schedule.rate(step, 0.5, 5, 20) for step in range(20)]
    assert rates[:6] == pytest.approx([0.0, 0.125, 0.25, 0.375, 0.5, 0.5])
    assert rates[12] == pytest.approx(0.3)  # the middle of steps 5 to 19
    assert rates[-1] == pytest.approx(0.1)


def test_a_constant_rate_is_constant() -> None:
    rates = {ScheduleSettings().rate(step, 0.03, 600, 6000) for step in range(0, 6000, 7)}
    assert rates == {0.03}


def test_step_divides_at_its_milestones() -> None:
    schedule = ScheduleSettings(name="step", milestones=[30, 60])
    rates = [schedule.rate(10 * epoch, 0.1, 10, 900) for epoch in (0, 29, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@settings(deadline=None)
@given(
    st.sampled_from(["constant", "step", "cosine"]),
    st.sampled_from(["dino", "gluoncv", "timm"]),
    st.integers(0, 20),
    st.floats(0, 5),
    st.integers(1, 200),
)
def test_a_rate_stays_between_its_ends(
    name: Any, arithmetic: Any, warmup: int, base: float, total: int
) -> None:
    schedule = ScheduleSettings(
        name=name, arithmetic=arithmetic, warmup_epochs=warmup, milestones=[3.0]
    )
    for step in range(total):
        rate = schedule.rate(step, base, 1.0, total)
        assert math.isfinite(rate)
        assert 0 <= rate <= base * (1 + 1e-9)


def small_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def test_norms_and_biases_are_not_decayed() -> None:
    network = small_network()
    optimizer = build_optimizer(network, OptimizerSettings(weight_decay=0.1))
    decayed = {
        id(parameter)
        for group in optimizer.param_groups
        for parameter in group["params"]
        if group["weight_decay"] > 0
    }
    names = {name for name, value in network.named_parameters() if id(value) in decayed}
    assert names == {"0.weight", "3.weight"}


def test_norms_and_biases_are_decayed_where_asked() -> None:
    settings_ = OptimizerSettings(weight_decay=0.1, decay_norm_and_bias=True)
    optimizer = build_optimizer(small_network(), settings_)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.1}


def test_momentum_is_plain_and_sgd_is_nesterov() -> None:
    for name, nesterov in (("momentum", False), ("sgd", True)):
        optimizer = build_optimizer(small_network(), OptimizerSettings(name=name))
        assert isinstance(optimizer, torch.optim.SGD)
        assert optimizer.defaults["nesterov"] is nesterov


def test_further_arguments_reach_the_optimizer() -> None:
    settings_ = OptimizerSettings(name="adam", args={"eps": 1e-7, "betas": [0.9, 0.95]})
    optimizer = build_optimizer(small_network(), settings_)
    assert optimizer.defaults["eps"] == 1e-7
    assert tuple(optimizer.defaults["betas"]) == (0.9, 0.95)


def test_layer_decay_scales_the_rate_of_lower_layers() -> None:
    import timm

    network = timm.create_model("resnet10t", num_classes=2)
    optimizer = build_optimizer(network, OptimizerSettings(lr=1.0, layer_decay=0.5))
    scheduler = build_scheduler(optimizer, ScheduleSettings(), 1.0, 1, 10)
    rates = {group["lr"] for group in optimizer.param_groups}
    assert max(rates) == 1.0
    assert min(rates) < 0.5
    assert {g["lr"] for g in scheduler.optimizer.param_groups} == rates


def test_an_unknown_optimizer_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'adamww'; nearest: adamw"):
        build_optimizer(small_network(), OptimizerSettings(name="adamww"))


def test_a_run_that_goes_on_with_another_rate_has_it_from_the_next_step() -> None:
    def begun(lr: float) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        optimizer = build_optimizer(small_network(), OptimizerSettings(name="momentum", lr=lr))
        return optimizer, build_scheduler(optimizer, ScheduleSettings("cosine"), lr, 1.0, 10)

    def advance(run: tuple[torch.optim.Optimizer, Any], steps: int) -> list[list[float]]:
        rates = []
        for _ in range(steps):
            rates.append([group["lr"] for group in run[0].param_groups])
            run[0].step()
            run[1].step()
        return rates

    def resumed(lr: float) -> tuple[torch.optim.Optimizer, Any]:
        run = begun(lr)
        for part, saved in zip(run, states, strict=True):
            part.load_state_dict(saved)
        return run

    first, whole, small = begun(0.1), begun(0.1), begun(0.01)
    advance(first, 4)
    states = [first[0].state_dict(), first[1].state_dict()]
    assert advance(resumed(0.1), 6) == advance(whole, 10)[4:]
    assert advance(resumed(0.01), 6) == advance(small, 10)[4:]
