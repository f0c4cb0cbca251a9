"""Subjects made ready to be timed: networks, images and the calls."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.bench.conditions import Conditions, Device, Precision
from experiments.bench.subjects import Subject, build_classifier
from experiments.bench.timing import Run
from experiments.compose import ConfigError
from lit_models import ImageClassifier
from lit_models.classifier import put_channels_last
from lit_models.optimization import build_optimizer

Form = Literal["fused", "unfused"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Contender(NamedTuple):
    """A network that is ready to be timed.

    Attributes:
        subject: Which one.
        form: `fused` is the deployed network, operators folded; `unfused` the one that is trained;
            None where nothing can be folded, and both are the same.
        classifier: What trains it.
        network: The network.
        input_size: Channels, height and width of an image.
    """

    subject: Subject
    form: Form | None
    classifier: ImageClassifier
    network: nn.Module
    input_size: tuple[int, int, int]


def contenders(
    subject: Subject,
    conditions: Conditions,
    forms: Sequence[Form] = ("unfused", "fused"),
    side: int | None = None,
) -> list[Contender]:
    """Build a subject's network, in each form that is asked for and that it has.

    Args:
        subject: The subject.
        conditions: Where the network goes, and how.
        forms: What is asked for. Only the unfused network can be trained.
        side: Height and width of the images; None for the row's, or the network's own.

    Raises:
        ConfigError: The network doesn't take images of that size, or the config is wrong.
    """
    torch.manual_seed(0)
    classifier, size = build_classifier(subject)
    if side is not None:
        size = (size[0], side, side)
        _set_input_size(classifier.network, size)
    networks: dict[Form | None, nn.Module] = {None: classifier.network}
    if conditions.what == "forward":
        deployed = classifier.deployed()
        if _kinds(deployed) != _kinds(classifier.network):
            both: dict[Form, nn.Module] = {"unfused": classifier.network, "fused": deployed}
            networks = {form: both[form] for form in forms}
    for network in networks.values():
        _prepare(network, conditions)
    return [
        Contender(subject, form, classifier, network, size) for form, network in networks.items()
    ]


def workload(contender: Contender, batch: int, conditions: Conditions) -> Run:
    """Return the call to time: one pass, or step, over a batch of made-up images."""
    network, device = contender.network, conditions.device
    images = torch.randn(batch, *contender.input_size, device=device)
    if conditions.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    classes = int(contender.classifier.hparams["num_classes"])
    targets = torch.randint(classes, (batch,), device=device)
    if conditions.what == "forward":
        network.eval()
        return forward_pass(network, images, autocast(device, conditions.precision))
    network.train()
    training = Training(contender.classifier, network, device, conditions.precision)
    if conditions.what == "training":
        return lambda: training.passes(images, targets)
    return lambda: training.step(images, targets)


def forward_pass(
    network: nn.Module, images: Tensor, context: Callable[[], AbstractContextManager[Any]]
) -> Callable[[], Tensor]:
    """Return a call that computes the network's output without gradients."""

    def run() -> Tensor:
        with torch.no_grad(), context():
            output: Tensor = network(images)
        return output

    return run


class Training:
    """Training steps of a network as its classifier asks for them, without the loop around.

    Args:
        classifier: Has the settings of loss, mixing and optimiser.
        network: What is trained.
        device: Where it is.
        precision: As in `Conditions`.
    """

    def __init__(
        self, classifier: ImageClassifier, network: nn.Module, device: Device, precision: Precision
    ) -> None:
        self.classifier, self.network = classifier, network
        self.context = autocast(device, precision)
        self.scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
        self.optimizer = build_optimizer(network, classifier.optimizer_settings)

    def passes(self, images: Tensor, targets: Tensor) -> Tensor:
        """Forward and backward pass; returns the loss."""
        self.network.zero_grad()
        with self.context():
            smoothing = self.classifier.label_smoothing if targets.ndim == 1 else 0.0
            loss = F.cross_entropy(self.network(images), targets, label_smoothing=smoothing)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """A whole training step; returns the loss."""
        if self.classifier.mixer is not None:
            # Mixing is in place.
            images, targets = self.classifier.mixer(images.clone(), targets)
        loss = self.passes(images, targets)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss


def autocast(
    device: Device, precision: Precision = "fp32"
) -> Callable[[], AbstractContextManager[Any]]:
    """Return what makes the context to compute in."""
    dtype = DTYPES.get(precision)
    return lambda: torch.autocast(device, dtype, enabled=dtype is not None)


def _prepare(network: nn.Module, conditions: Conditions) -> None:
    network.to(conditions.device)
    if conditions.channels_last:
        put_channels_last(network)
    if conditions.compiled:
        network.compile()


def _kinds(network: nn.Module) -> list[type]:
    return [type(module) for module in network.modules()]


def _set_input_size(network: Any, size: tuple[int, int, int]) -> None:
    """Tell a network that is made for one size of images; then see whether it takes them."""
    try:
        if hasattr(network, "set_input_size"):
            network.set_input_size(img_size=size[1:])
        network.eval()
        with torch.no_grad():
            network(torch.zeros(1, *size))
    except Exception as error:
        raise ConfigError(
            f"{type(network).__name__} takes no images of {size[1]}x{size[2]}: "
            f"{' '.join(str(error).split())}"
        ) from error
