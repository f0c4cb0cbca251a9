"""Whole runs: `fit` against a script of torchvision and a default Trainer, and a bare loop."""

import copy
import io
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy
from torchvision import transforms  # type: ignore[import-untyped]

from datamodules.in_memory import InMemoryDataModule
from experiments.__main__ import main
from experiments.bench.speed.item import (
    Item,
    Measured,
    Rounds,
    Target,
    UnavailableError,
    compared,
    times_as_fast,
)
from experiments.bench.speed.loaders import torchvision_dataset
from experiments.bench.timing import Run, interleaved, ratios
from experiments.cli import build
from experiments.record import find_runs, row_of
from lit_models import ImageClassifier
from lit_models.optimization import build_optimizer

GROUP = "Whole runs"
SCRIPT = "a script of torchvision's data set, DataLoader and a default Trainer"
MNIST_DEMO = Path("configs/do_conv/mnist_pytorch/do_conv.yaml")
CIFAR_RESNET = Path("configs/resnext/cifar10_small/resnet_29_1x16d.yaml")
CIFAR_STEPS = 10
# Of the suite: the results are the same up to rounding.
CHANNELS_LAST = ("--model.init_args.channels_last", "true")


class ScriptModule(L.LightningModule):
    """The module of a usual script: loss and accuracy are logged at every step.

    Args:
        classifier: Has the network (a copy is trained) and the optimiser's settings.
    """

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.network = copy.deepcopy(classifier.network)
        self.optimizer_settings = classifier.optimizer_settings
        classes = int(classifier.hparams["num_classes"])
        self.train_accuracy = MulticlassAccuracy(classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(classes, average="micro")

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        images, targets = batch
        logits = self.network(images)
        loss = F.cross_entropy(logits, targets)
        self.train_accuracy(logits, targets)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy, prog_bar=True)
        return loss

    def test_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Count a batch."""
        images, targets = batch
        self.test_accuracy(self.network(images), targets)
        self.log("test_accuracy", self.test_accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The row's optimiser."""
        return build_optimizer(self.network, self.optimizer_settings)


def items() -> list[Item]:
    """The items of whole runs."""
    return [
        Item(
            "epoch_mnist",
            GROUP,
            "an epoch of the MNIST demo (DO-Conv) and its test, whole command, one thread",
            SCRIPT,
            "times as fast",
            {"default": Target(3)},
            _mnist_epoch,
        ),
        Item(
            "epoch_cifar",
            GROUP,
            f"the first {CIFAR_STEPS} steps of an epoch of ResNet-29 1x16d on CIFAR-10, batch 128, "
            "channels last",
            SCRIPT,
            "times as fast",
            {"default": Target(3)},
            _cifar_epoch,
        ),
        Item(
            "overhead",
            GROUP,
            "what `fit` adds to a training step of the MNIST demo, one thread",
            "a bare loop over the same batches",
            "us a step",
            {"default": Target(450, at_least=False)},
            partial(overhead, MNIST_DEMO, ()),
        ),
    ]


def overhead(config: Path, options: Sequence[str], rounds: Rounds) -> Measured:
    """Microseconds that `fit` adds to a step of a bare loop: loader, both passes, optimiser.

    Args:
        config: The row.
        options: Of `fit`, besides.
        rounds: One epoch of each in every round.
    """
    classifier, data = built(config)
    with _threads(1):
        steps = len(data.train_dataloader())
        bare = partial(_timed, partial(_bare_epoch, classifier, data))
        runs: dict[str, Callable[[], float]] = {
            "bare": bare,
            "fit": partial(fit_epoch, config, options),
        }
        timings = interleaved(runs, rounds, _as_told)
    theirs, ours = timings["bare"], timings["fit"]
    pairs = zip(ours.seconds, theirs.seconds, strict=True)
    measured = compared(theirs, ours, [(own - bare) / steps * 1e6 for own, bare in pairs])
    per_step = 1000 / steps  # from ms an epoch to us a step
    return measured._replace(ours=measured.ours * per_step, reference=measured.reference * per_step)


def _mnist_epoch(rounds: Rounds) -> Measured:
    classifier, data = built(MNIST_DEMO)
    with _threads(1):
        script = partial(script_epoch, classifier, data, transforms.ToTensor(), test=True)
        return times_as_fast(script, partial(fit_epoch, MNIST_DEMO, ()), rounds)


def _cifar_epoch(rounds: Rounds) -> Measured:
    classifier, data = built(CIFAR_RESNET)
    augmented = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=4),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )
    few = ["--trainer.limit_train_batches", str(CIFAR_STEPS), "--trainer.limit_val_batches", "0"]
    options = [*few, *CHANNELS_LAST, "--test_after_fit", "false"]
    runs: dict[str, Callable[[], float]] = {
        "script": partial(script_epoch, classifier, data, augmented, limit=CIFAR_STEPS),
        "fit": partial(fit_epoch, CIFAR_RESNET, options),
    }
    timings = interleaved(runs, rounds, _as_told)
    theirs, ours = timings["script"], timings["fit"]
    return compared(theirs, ours, ratios(theirs, ours))


def fit_epoch(config: Path, options: Sequence[str]) -> float:
    """Train one epoch by the command; returns the training's seconds as its record has them."""
    with _aside() as folder:
        words = ["--trainer.max_epochs", "1", "--runs", str(folder), *options]
        errors = io.StringIO()
        with redirect_stderr(errors):
            status = main(["fit", "--config", str(config), *words])
        if status:
            said = errors.getvalue().strip().splitlines()
            raise RuntimeError(f"fit --config {config} failed: {said[-1] if said else status}")
        record = next(iter(find_runs(folder, row_of(config))))
        return float(record.facts["training_seconds"])


def script_epoch(
    classifier: ImageClassifier,
    data: InMemoryDataModule,
    transform: Callable[[Any], Tensor],
    *,
    limit: int | float = 1.0,
    test: bool = False,
) -> float:
    """Read the data and train one epoch as a script would; returns the training's seconds."""
    train, evaluated = (torchvision_dataset(images, transform) for images in data.read())
    trained = range(data.num_train)
    timer = Timer()
    with _aside() as folder:
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=1,
            limit_train_batches=limit,
            default_root_dir=folder,
            callbacks=[timer],
        )
        module = ScriptModule(classifier)
        loader = DataLoader(torch.utils.data.Subset(train, trained), data.batch_size, shuffle=True)
        trainer.fit(module, loader)
        if test:
            trainer.test(module, DataLoader(evaluated, data.eval_batch_size))
    return timer.time_elapsed("train")


def _bare_epoch(classifier: ImageClassifier, data: InMemoryDataModule) -> None:
    network = copy.deepcopy(classifier.network).train()
    optimizer = build_optimizer(network, classifier.optimizer_settings)
    for images, targets, _ in data.train_dataloader():
        optimizer.zero_grad()
        F.cross_entropy(network(images), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def built(config: Path) -> tuple[ImageClassifier, InMemoryDataModule]:
    """The row's classifier and its data, read.

    Raises:
        UnavailableError: The data set isn't here.
    """
    built: tuple[Any, Any] = build([config], device="cpu")
    classifier, data = built
    try:
        data.setup()
    except (FileNotFoundError, ValueError) as error:
        raise UnavailableError(str(error)) from error
    return classifier, data


@contextmanager
def _aside() -> Iterator[Path]:
    """A folder to write to that is gone afterwards; what is said meanwhile isn't heard."""
    said = io.StringIO()
    # Handlers of the logging module hold the real stderr.
    logging.disable(logging.INFO)
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(said), redirect_stderr(said):
            yield Path(folder)
    finally:
        logging.disable(logging.NOTSET)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _timed(run: Run) -> float:
    """Seconds of a run; not `wall_clock`, since garbage is collected while `fit` trains, too."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _as_told(run: Callable[[], Any], calls: int) -> float:
    """A `Clock` for runs that return their own seconds."""
    return sum(float(run()) for _ in range(calls)) / calls
