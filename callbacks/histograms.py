"""Histograms of gradients, and of the attentions of KernelWarehouse, every few epochs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from callbacks.media import log_media, writing
from lit_models.classifier import ImageClassifier, network_of
from lit_models.kernel_warehouse import effective_cells, kernel_layers

FILE_NAME = "histograms.jsonl"

_IMAGES = 32


@dataclass(frozen=True)
class Bins:
    """Bins of one width from `low` on; the first and the last take what lies beyond."""

    low: float
    width: float
    number: int

    @property
    def edges(self) -> list[float]:
        """The bins' edges, one more than there are bins."""
        return [round(self.low + edge * self.width, 6) for edge in range(self.number + 1)]

    def histogram(self, values: Tensor) -> Tensor:
        """How many values lie in each bin, int64 (number,); no GPU is waited for."""
        places = ((values.flatten() - self.low) / self.width).nan_to_num(nan=self.number)
        bins = places.clamp(0, self.number - 1).long()
        counts = torch.zeros(self.number, dtype=torch.int64, device=values.device)
        return counts.index_add_(0, bins, torch.ones_like(bins))


BINS = {
    # Decimal exponents of magnitudes; zeros are in the first bin.
    "gradients": Bins(-12.0, 0.5, 28),
    # Absolute sums are at most 1.
    "attention": Bins(-1.0, 0.05, 40),
}


class _Histogram(NamedTuple):
    kind: str
    name: str
    counts: Tensor
    cells_in_use: Tensor | None = None

    def line(self) -> dict[str, Any]:
        """The line of the file, copied from the device."""
        cells = {} if self.cells_in_use is None else {"cells_in_use": self.cells_in_use.item()}
        edges, counts = BINS[self.kind].edges, self.counts.tolist()
        return {"kind": self.kind, "name": self.name, "edges": edges, "counts": counts, **cells}


class Histograms(L.Callback):
    """Shows the gradients of every parameter and the attention of every KernelWarehouse layer.

    Both are those of an epoch's last step: the gradients as they are before clipping, by the
    logarithm of their magnitude; the attentions of up to 32 images of its batch, in evaluation
    mode, and beside their histogram the number of cells in use: the exponential of the entropy of
    their magnitudes, the mean over images and mixtures (1 where each mixture has one cell). They
    are counted on the device and copied at the end of the epoch. Each is a line in
    `histograms.jsonl` and logged as `gradients/<parameter>`, `attention/<layer>` and
    `attention_cells/<layer>`. Nothing in the training depends on them.

    Args:
        folder: Where the file goes.
        every_n_epochs: Epochs from one to the next; the first is the first.

    Raises:
        ValueError: `every_n_epochs` is below 1.
    """

    def __init__(self, folder: Path, every_n_epochs: int = 1) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs is {every_n_epochs}; it must be at least 1")
        self.path = folder / FILE_NAME
        self.every_n_epochs = every_n_epochs
        self._found: list[_Histogram] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget what a resumed run will see again."""
        if trainer.is_global_zero and self.path.is_file():
            with writing(FILE_NAME):
                lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
                kept = [line for line in lines if json.loads(line)["step"] <= trainer.global_step]
                self.path.write_text("".join(kept), encoding="utf-8")

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Count the gradients of the epoch's last step."""
        if self._is_due(trainer):
            for name, parameter in network_of(pl_module).named_parameters():
                if parameter.grad is not None:
                    exponents = parameter.grad.detach().float().abs().log10()
                    counts = BINS["gradients"].histogram(exponents)
                    self._found.append(_Histogram("gradients", name, counts))

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the attentions after the epoch's last step."""
        network = network_of(pl_module)
        is_classifier = isinstance(pl_module, ImageClassifier)
        if self._is_due(trainer) and is_classifier and any(True for _ in kernel_layers(network)):
            with trainer.precision_plugin.forward_context():
                coefficients = attentions(network, batch[0][:_IMAGES])
            for name, values in coefficients.items():
                counts = BINS["attention"].histogram(values)
                cells = effective_cells(values).mean()
                self._found.append(_Histogram("attention", name, counts, cells))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Copy the counts from the device, and show them."""
        found, self._found = self._found, []
        when = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        lines = [{**when, **histogram.line()} for histogram in found]
        if lines:
            with writing(FILE_NAME), self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            log_media(trainer, lambda wandb: _media(wandb, lines))

    def _is_due(self, trainer: L.Trainer) -> bool:
        due = trainer.current_epoch % self.every_n_epochs == 0
        return trainer.is_global_zero and due and trainer.is_last_batch


def attentions(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Coefficients `(N, mixtures, cells)` of every KernelWarehouse layer, by its name.

    The network is in evaluation mode meanwhile; nothing in it changes.

    Args:
        network: A network with KernelWarehouse layers, compiled or not.
        images: Its input `(N, C, H, W)`.
    """
    layers = set(kernel_layers(network))
    named = {name: module for name, module in network.named_modules() if module in layers}
    found: dict[str, Tensor] = {}

    def keep(name: str, coefficients: Tensor) -> None:
        found[name] = coefficients.detach()

    hooks = [
        layer.get_submodule("attention").register_forward_hook(
            lambda module, args, output, name=name: keep(name, output)
        )
        for name, layer in named.items()
    ]
    try:
        with torch.no_grad(), _evaluating(network):
            network.forward(images)  # not through `compile`, which would compile anew
    finally:
        for hook in hooks:
            hook.remove()
    return found


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _media(wandb: Any, lines: list[dict[str, Any]]) -> dict[str, Any]:
    media: dict[str, Any] = {}
    for line in lines:
        counts = (line["counts"], line["edges"])
        media[f"{line['kind']}/{line['name']}"] = wandb.Histogram(np_histogram=counts)
        if "cells_in_use" in line:
            media[f"attention_cells/{line['name']}"] = line["cells_in_use"]
    return media
