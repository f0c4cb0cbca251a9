"""KernelWarehouse: the suite's mixtures against the papers' form, and against plain networks."""

import copy
from collections.abc import Mapping
from functools import partial

import timm
import torch
from torch import nn

from experiments.bench.memory import kept_bytes
from experiments.bench.speed.item import Allocator, Item, Measured, Rounds, Target, times_the_time
from experiments.bench.speed.networks import (
    Images,
    TwoForms,
    race_evaluation,
    race_training,
    training_step,
)
from lit_models.kernel_warehouse import kernel_layers
from lit_models.kernel_warehouse.mixture import per_sample_convolution

GROUP = "KernelWarehouse"
PAPERS = "the papers' form: a kernel for each sample, one grouped convolution"
PLAIN = "the plain ResNet18"


def two_forms(name: str) -> TwoForms:
    """Build a KernelWarehouse network, and a copy of it whose layers compute as the papers' do."""
    torch.manual_seed(0)
    ours = timm.create_model(name)
    papers = copy.deepcopy(ours)
    for layer in kernel_layers(papers):
        layer.mixture = per_sample_convolution
    return TwoForms(papers, ours)


def items() -> list[Item]:
    """The items of this family."""
    small, large = Images(32, 64), Images(32, 128)
    return [
        _training("kw1x_resnet18", small, {"default": Target(9), "tuned": Target(4)}),
        _training("kw1x_resnet18", Images(8, 64), {"default": Target(5)}),
        _training("kw1x_resnet18", large, {"default": Target(4), "tuned": Target(2)}),
        _training("kw1d2x_resnet18", Images(16, 64), {"default": Target(6)}),
        _training("kw4x_resnet18", Images(16, 64), {"default": Target(3)}),
        Item(
            "kw_over_plain",
            GROUP,
            f"training step of kw1x_resnet18, {small}",
            PLAIN,
            "times the time",
            {"default": Target(2.5, at_least=False), "tuned": Target(2.5, at_least=False)},
            partial(_over_plain, small),
        ),
        Item(
            "kw_memory",
            GROUP,
            f"memory kept for the backward pass of kw1x_resnet18, {small}",
            PLAIN,
            "times the memory",
            {"default": Target(1.5, at_least=False)},
            partial(_memory, small),
        ),
        _evaluation("kw1x_resnet18", 64, Target(1.3)),
        _evaluation("kw1x_resnet18", 224, Target(1.0)),
        *(
            _training(name, Images(8, 64), {"default": Target(1.0)})
            for name in ("kw1x_resnet50", "kw1x_convnext_tiny", "kw1x_mobilenetv2_100")
        ),
    ]


def _training(name: str, images: Images, targets: Mapping[Allocator, Target]) -> Item:
    def measure(rounds: Rounds) -> Measured:
        return race_training(two_forms(name), images, rounds)

    return Item(
        f"{name}_b{images.batch}_{images.side}",
        GROUP,
        f"training step of {name}, {images}",
        PAPERS,
        "times as fast",
        targets,
        measure,
    )


def _evaluation(name: str, side: int, target: Target) -> Item:
    images = Images(1, side)

    def measure(rounds: Rounds) -> Measured:
        return race_evaluation(two_forms(name), images, rounds)

    return Item(
        f"{name}_evaluation_{side}",
        GROUP,
        f"evaluation of {name}, {images}",
        PAPERS,
        "times as fast",
        {"default": target},
        measure,
    )


def _over_plain(images: Images, rounds: Rounds) -> Measured:
    batch = images.draw()
    plain = training_step(timm.create_model("resnet18"), batch)
    ours = training_step(two_forms("kw1x_resnet18").ours, batch)
    return times_the_time(plain, ours, rounds)


def _memory(images: Images, _: Rounds) -> Measured:
    plain = _kept(timm.create_model("resnet18"), images)
    ours = _kept(two_forms("kw1x_resnet18").ours, images)
    return Measured(ours / plain, 0.0, ours, plain)


def _kept(network: nn.Module, images: Images) -> float:
    """MiB that a forward pass in training keeps for the backward pass."""
    network.train()
    batch = images.draw()
    network(batch)
    return kept_bytes(lambda: network(batch)) / 2**20
