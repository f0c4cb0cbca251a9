"""Image classification: loss, exact metrics, optimiser, schedule. Knows no family."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lit_models.metrics import EvaluationMetrics
from lit_models.mixing import MixSettings
from lit_models.network_training import NetworkTraining, settings_of
from lit_models.optimization import OptimizerSettings, ScheduleSettings

Batch = tuple[Tensor, Tensor, Tensor]

_DEFAULT_OPTIMIZER = OptimizerSettings()
_DEFAULT_SCHEDULE = ScheduleSettings()
_NO_MIX = MixSettings()


class ImageClassifier(NetworkTraining):
    """A backbone trained to classify images.

    Batches are `(images (N, C, H, W), targets, indices (N,))`, where targets are classes `(N,)` or
    probabilities `(N, num_classes)` and indices say which samples these are.

    Args:
        backbone: Name of the network, any of `timm.list_models()` (ours included).
        num_classes: Number of classes; comes from the data module.
        in_chans: Number of input channels; comes from the data module.
        backbone_args: Further options of the network, for example `{drop_path_rate: 0.1}`.
        label_smoothing: Share of the target that is spread over all classes, 0 to 1.
        optimizer: Optimiser settings.
        schedule: Learning-rate settings.
        mix: Mixup and CutMix of training batches.
        channels_last: Keep images and 4-dimensional weights with their channels last in memory.
            The results are the same up to rounding; convolutions are faster on most GPUs.
        compile: Run the network through torch.compile; likewise the same up to rounding.

    Raises:
        ValueError: If no network has the name; the message has the nearest ones.
    """

    selection_metric = "val/acc1"

    def __init__(
        self,
        backbone: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        backbone_args: dict[str, Any] | None = None,
        label_smoothing: float = 0.0,
        optimizer: OptimizerSettings = _DEFAULT_OPTIMIZER,
        schedule: ScheduleSettings = _DEFAULT_SCHEDULE,
        mix: MixSettings = _NO_MIX,
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__(backbone, optimizer, schedule)
        self.save_hyperparameters(logger=False)
        self.keep_plain_hparams()
        self.mixer = settings_of(MixSettings, mix).build(label_smoothing, num_classes)
        self.label_smoothing = label_smoothing
        self.network = self.build_network(
            backbone, num_classes=num_classes, in_chans=in_chans, **(backbone_args or {})
        )
        self.channels_last = channels_last
        if channels_last:
            put_channels_last(self.network)
        if compile:
            # In place: names of weights stay, and copies of the network are not compiled.
            self.network.compile()
        accuracy = MetricCollection(
            {
                "acc1": MulticlassAccuracy(num_classes, average="micro"),
                "acc5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro"),
            }
        )
        self.val_metrics = EvaluationMetrics(accuracy)
        self.test_metrics = EvaluationMetrics(accuracy)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of `images: (N, C, H, W)`."""
        logits: Tensor = self.network(self.arranged(images))
        return logits

    def arranged(self, images: Tensor) -> Tensor:
        """Return images in the memory format in which the network gets them."""
        if self.channels_last:
            return images.contiguous(memory_format=torch.channels_last)
        return images

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch; stops training where it is not finite."""
        images, targets, indices = batch
        smoothing = self.label_smoothing
        if self.mixer is not None:
            if len(images) % 2:
                raise ValueError(
                    f"mixup needs an even number of images and got {len(images)}; set the data's "
                    "drop_last or an even batch size"
                )
            # The mixer smooths the targets itself.
            images, targets = self.mixer(images, targets)
            smoothing = 0.0
        loss = F.cross_entropy(self(images), targets, label_smoothing=smoothing)
        self.watch(loss, batch_idx, indices)
        return loss

    def on_test_start(self) -> None:
        """Ask the data module whether the test images have fewer classes than the network."""
        classes = getattr(self._trainer_facts.datamodule, "test_classes", None)
        self.test_metrics.restrict(None if classes is None else classes.to(self.device))

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Count one batch; returns its `logits`."""
        return self._evaluation_step(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Count one batch; returns its `logits`."""
        return self._evaluation_step(batch, self.test_metrics)

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Predictions of one batch: `index (N,)`, `target` and `probability (N, num_classes)`."""
        images, targets, indices = batch
        return {"index": indices, "target": targets, "probability": self(images).softmax(dim=1)}

    def on_validation_epoch_end(self) -> None:
        """Log what the validation counted."""
        self._log_metrics("val", self.val_metrics, self.trainer.limit_val_batches)

    def on_test_epoch_end(self) -> None:
        """Log what the test counted."""
        self._log_metrics("test", self.test_metrics, self.trainer.limit_test_batches)

    def _evaluation_step(self, batch: Batch, metrics: EvaluationMetrics) -> dict[str, Tensor]:
        images, targets, _ = batch
        logits = self(images)
        metrics.update(logits, targets)
        return {"logits": logits}

    def _log_metrics(
        self, stage: str, metrics: EvaluationMetrics, limit: int | float | None
    ) -> None:
        counted = metrics.compute()
        samples = int(counted.pop("samples"))
        metrics.reset()
        self._log_evaluation(stage, counted, samples, limit)


def put_channels_last(network: nn.Module) -> None:
    """Put the channels of 4-dimensional parameters last in memory, in place."""
    # Not `Module.to(memory_format=...)`, which refuses 5-dimensional parameters.
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def network_of(module: nn.Module) -> nn.Module:
    """The network that a LightningModule trains: its `network`, else the module."""
    return module.network if isinstance(module, NetworkTraining) else module
