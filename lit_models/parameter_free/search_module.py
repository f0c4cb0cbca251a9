"""Differentiable architecture search: weights and architecture are trained in turn."""

from collections import defaultdict
from typing import Any

import torch
from torch.nn import functional as F

from lit_models.classifier import Batch, ImageClassifier
from lit_models.parameter_free.cell_search import SearchNetwork
from lit_models.parameter_free.cells import Genotype, kind_of_cell, parameter_free_share


class ArchitectureSearch(ImageClassifier):
    """A search for cells in which operations with and without parameters compete.

    DARTS (ICLR 2019) of first order. The training set is halved: images in even rows of the data
    set train the weights, those in odd rows the architecture. Every batch makes a step of each, the
    architecture's first.

    It logs the share of operations without parameters in the cells as they stand, of all normal
    cells (`search/parameter_free_normal`), of all reduction cells and, where cells are searched
    individually, of each. What is tested is the search network, with all operations in place.

    Args:
        backbone: Name of a search network; `backbone_args` shape it (`operations`, `nodes`,
            `individual`, `cells`, `channels`).
        architecture_lr: Learning rate of the architecture, whose optimiser is Adam.
        architecture_weight_decay: Its weight decay.
        gradient_clip: Norm at which gradients of the weights are clipped.
        task: Everything else that `ImageClassifier` takes.

    Raises:
        ValueError: The backbone is no search network, or mixup was asked for.
    """

    network: SearchNetwork

    def __init__(
        self,
        backbone: str = "cell_search",
        architecture_lr: float = 3e-4,
        architecture_weight_decay: float = 1e-3,
        gradient_clip: float = 5.0,
        **task: Any,
    ) -> None:
        super().__init__(backbone, **task)
        if not isinstance(self.network, SearchNetwork):
            raise ValueError(f"{backbone} is no search network; name cell_search")
        if self.mixer is not None:
            raise ValueError("a search mixes no images; leave mix out")
        self.automatic_optimization = False
        self.architecture_lr = architecture_lr
        self.architecture_weight_decay = architecture_weight_decay
        self.gradient_clip = gradient_clip

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        """One step of the architecture, then one of the weights, each on its half of the images."""
        images, targets, indices = batch
        optimizers: Any = self.optimizers()
        weights, architecture = optimizers
        for optimizer, rows in ((architecture, indices % 2 == 1), (weights, indices % 2 == 0)):
            # A small last batch may have none; all devices skip the step then, or none does.
            if not self.trainer.strategy.reduce_boolean_decision(bool(rows.any())):
                continue
            loss = F.cross_entropy(
                self(images[rows]), targets[rows], label_smoothing=self.label_smoothing
            )
            if optimizer is weights:
                self.watch(loss, batch_idx, indices[rows])
            # Each step's loss has gradients of both.
            self.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        scheduler: Any = self.lr_schedulers()
        scheduler.step()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients of the weights, where half precision scales them no longer."""
        if optimizer is self.trainer.optimizers[0]:
            self.clip_gradients(optimizer, self.gradient_clip, "norm")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss, and what the cells would be now."""
        super().on_train_epoch_end()
        shares = parameter_free_shares(self.network.genotype(), len(self.network.cells))
        self.log_dict({f"search/parameter_free_{name}": share for name, share in shares.items()})

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the weights, and Adam for the architecture.

        Raises:
            ValueError: Training is limited by steps, which Lightning counts twice here.
        """
        # A fast development run is limited so, too, and ends after its first batches all the same.
        if self.trainer.max_steps != -1 and not self._trainer_facts.fast_dev_run:
            raise ValueError(
                f"trainer.max_steps is {self.trainer.max_steps}; every batch of a search makes two "
                "steps, so give trainer.max_epochs alone"
            )
        architecture = self.network.architecture()
        # What needs no gradient gets no optimiser.
        for parameter in architecture:
            parameter.requires_grad_(False)
        weights = super().configure_optimizers()
        for parameter in architecture:
            parameter.requires_grad_()
        adam = torch.optim.Adam(
            architecture,
            lr=self.architecture_lr,
            betas=(0.5, 0.999),
            weight_decay=self.architecture_weight_decay,
        )
        return [weights, {"optimizer": adam}]


def parameter_free_shares(genotype: Genotype, cells: int) -> dict[str, float]:
    """Return the share of operations without parameters, by kind of cell, and by cell.

    Args:
        genotype: Cells by name.
        cells: Number of cells of the network.
    """
    by_cell = {name: parameter_free_share(nodes) for name, nodes in genotype.items()}
    of_kind: dict[str, list[float]] = defaultdict(list)
    for index in range(cells):
        kind = kind_of_cell(index, cells)
        of_kind[kind].append(by_cell[kind] if kind in by_cell else by_cell[f"cell{index}"])
    return {**by_cell, **{kind: sum(shares) / len(shares) for kind, shares in of_kind.items()}}
