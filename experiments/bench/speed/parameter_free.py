"""Parameter-free layers: channels last against contiguous, fused attention against unfused."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from experiments.bench.speed.item import Item, Measured, Rounds, Target
from experiments.bench.speed.networks import Images, TwoForms, race_evaluation, race_training
from lit_models import ParameterFreeClassifier
from lit_models.norm_folding import fold_norms

GROUP = "Parameter-free layers"
BOTTLENECKS = {"R50-hybrid": "resnet50_hybrid", "R50-max": "resnet50_max"}
TRANSFORMERS = {"ViT-S-max": ("vit_s_max", 1.0), "PiT-S-max": ("pit_s_max", 1.1)}


def trained(name: str) -> TwoForms:
    """A network twice, as it is trained."""
    network = _classifier(name).network
    return TwoForms(network, copy.deepcopy(network))


def exported(name: str) -> TwoForms:
    """A network as it is trained, and as it is exported: its norms folded."""
    classifier = _classifier(name)
    return TwoForms(classifier.network, fold_norms(classifier.deployed()))


def unfused_attention(name: str) -> TwoForms:
    """A transformer that writes its attention matrices out, and one that doesn't."""
    forms = trained(name)
    for module in forms.reference.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010 - no attribute of nn.Module
    return forms


def items() -> list[Item]:
    """The items of this family."""
    found = []
    images = Images(16, 128)
    contiguous = "the same network, contiguous"
    as_trained = "the network as it is trained, norms not folded, contiguous"
    for title, name in BOTTLENECKS.items():
        found += [
            _item(
                f"{name}_training",
                f"training step of {title}, channels last, {images}",
                contiguous,
                Target(1.3),
                partial(_race, race_training, trained, name, images, channels_last=True),
            ),
            _item(
                f"{name}_evaluation",
                f"evaluation of {title} as exported, norms folded, channels last, {images}",
                as_trained,
                Target(1.8),
                partial(_race, race_evaluation, exported, name, images, channels_last=True),
            ),
        ]
    images = Images(4, 224)
    for title, (name, bound) in TRANSFORMERS.items():
        found.append(
            _item(
                name,
                f"training step of {title}, {images}",
                "the same with unfused attention",
                Target(bound),
                partial(_race, race_training, unfused_attention, name, images),
            )
        )
    return found


def _item(
    name: str, title: str, against: str, target: Target, measure: Callable[[Rounds], Measured]
) -> Item:
    return Item(name, GROUP, title, against, "times as fast", {"default": target}, measure)


def _race(
    race: Callable[..., Measured],
    build: Callable[[str], TwoForms],
    name: str,
    images: Images,
    rounds: Rounds,
    **options: Any,
) -> Measured:
    return race(build(name), images, rounds, **options)


def _classifier(name: str) -> ParameterFreeClassifier:
    torch.manual_seed(0)
    return ParameterFreeClassifier(name)
