"""Image classification: loss, exact metrics, optimiser, schedule. Knows no family."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from typing import Any, TypeVar

import lightning as L
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn import functional as F
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lit_models.finite_loss import FiniteLossGuard, NonFiniteLossError
from lit_models.metrics import EvaluationMetrics, MeanLoss
from lit_models.mixing import MixSettings
from lit_models.optimization import (
    OptimizerSettings,
    ScheduleSettings,
    build_optimizer,
    build_scheduler,
)
from lit_models.registry import create_network
from lit_models.state_dicts import first_differences

Batch = tuple[Tensor, Tensor, Tensor]
Settings = TypeVar("Settings")

_DEFAULT_OPTIMIZER = OptimizerSettings()
_DEFAULT_SCHEDULE = ScheduleSettings()
_NO_MIX = MixSettings()


class ImageClassifier(L.LightningModule):
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

    network: nn.Module

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
        super().__init__()
        self.save_hyperparameters(logger=False)
        # A checkpoint holds settings as plain dictionaries, so that it loads with weights_only.
        for name, value in self.hparams.items():
            if is_dataclass(value) and not isinstance(value, type):
                self.hparams[name] = asdict(value)
        self.optimizer_settings = _settings(OptimizerSettings, optimizer)
        self.schedule_settings = _settings(ScheduleSettings, schedule)
        self.mixer = _settings(MixSettings, mix).build(label_smoothing, num_classes)
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
        self._finite_loss = FiniteLossGuard()
        self.train_loss = MeanLoss()
        self.val_metrics = EvaluationMetrics(accuracy)
        self.test_metrics = EvaluationMetrics(accuracy)

    def configure_model(self) -> None:
        """Shard the network's parameters over the devices, where the strategy is FSDP2.

        Its layers may share parameters, so the network is sharded as one: all of them are gathered
        for forward and backward; between these, and in gradients and optimiser, they are shards.
        """
        if self.device_mesh is not None and not isinstance(self.network, FSDPModule):
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the network to train; a family overrides this to put its operator in."""
        return create_network(backbone, **options)

    def deployed(self) -> nn.Module:
        """Return a copy of the network as it would be deployed, operators folded, in eval mode."""
        return copy.deepcopy(self.network).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, num_classes)` of `images: (N, C, H, W)`."""
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.network(images)
        return logits

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
        where = f"epoch {self.current_epoch}, batch {batch_idx}"
        self._finite_loss.check(loss, self.global_step, where, indices)
        self.train_loss.update(loss.detach(), len(images))
        every: int = self._trainer_facts.log_every_n_steps
        if (self.global_step + 1) % every == 0:  # when Lightning writes what is logged
            self.log("train/loss_step", loss.detach(), prog_bar=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss."""
        self.log("train/loss", self.train_loss.compute())
        self.train_loss.reset()

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
        self._log_evaluation("val", self.val_metrics, self.trainer.limit_val_batches)

    def on_test_epoch_end(self) -> None:
        """Log what the test counted."""
        self._log_evaluation("test", self.test_metrics, self.trainer.limit_test_batches)

    def scale_learning_rate(self, factor: float) -> None:
        """Multiply the learning rate of every step by `factor`, the warm-up's and the last too."""
        rates = self.schedule_settings
        self.schedule_settings = replace(
            rates, warmup_lr=rates.warmup_lr * factor, final_lr=rates.final_lr * factor
        )
        optimizer = self.optimizer_settings
        self.optimizer_settings = replace(optimizer, lr=optimizer.lr * factor)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights.

        Raises:
            ValueError: They are another network's; the message names the first differences.
        """
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            difference = first_differences(self.state_dict(), state_dict)
            reason = difference or " ".join(str(error).split())
            raise ValueError(f"these are the weights of another network: {reason}") from error

    def load_weights(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the network's weights from a checkpoint of a run or a plain state dict.

        Args:
            checkpoint: What a run saved (weights under `state_dict`), or the network's state dict.

        Raises:
            ValueError: They are another network's; the message names the first differences.
        """
        state = checkpoint.get("state_dict", checkpoint)
        if any(key.startswith("network.") for key in state):
            self.load_state_dict({k: v for k, v in state.items() if k.startswith("network.")})
        else:
            self.load_state_dict({f"network.{key}": value for key, value in state.items()})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to save weights that a non-finite loss has spoiled; save the epoch's loss so far.

        Raises:
            NonFiniteLossError: A loss was not finite, on this or on another device.
        """
        self._finite_loss.flush()
        with self.train_loss.sync_context():
            total, count = self.train_loss.total.clone(), self.train_loss.count.clone()
        checkpoint["train_loss"] = {"total": total, "count": count}
        if not total.isfinite():
            raise NonFiniteLossError(
                f"the loss of another device is not finite by step {self.global_step}; lower the "
                "learning rate or clip gradients (--trainer.gradient_clip_val 1.0)",
                self.global_step,
                [],
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the epoch's loss, which is that of all devices together."""
        if self.global_rank == 0:
            for name, value in checkpoint.get("train_loss", {}).items():
                setattr(self.train_loss, name, value.to(self.device))

    def configure_optimizers(self) -> Any:
        """Optimiser and per-step schedule."""
        optimizer = build_optimizer(self.network, self.optimizer_settings)
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = build_scheduler(
            optimizer,
            self.schedule_settings,
            base_lr=self.optimizer_settings.lr,
            steps_per_epoch=total_steps / max(1, self.trainer.max_epochs or 1),
            total_steps=total_steps,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    @property
    def _trainer_facts(self) -> Any:
        # The Trainer has these attributes, but not in its type.
        return self.trainer

    def _evaluation_step(self, batch: Batch, metrics: EvaluationMetrics) -> dict[str, Tensor]:
        images, targets, _ = batch
        logits = self(images)
        metrics.update(logits, targets)
        return {"logits": logits}

    def _log_evaluation(
        self, stage: str, metrics: EvaluationMetrics, limit: int | float | None
    ) -> None:
        counted = metrics.compute()
        samples = int(counted.pop("samples"))
        metrics.reset()
        trainer = self._trainer_facts
        expected = getattr(trainer.datamodule, f"num_{stage}", None)
        # The number 1 is one batch, 1.0 is all of them.
        unlimited = isinstance(limit, float) and limit == 1.0
        whole = unlimited and not trainer.sanity_checking and not trainer.fast_dev_run
        if whole and expected is not None and samples != expected:
            raise RuntimeError(
                f"{stage} counted {samples} samples where the data set has {expected}; "
                "an exact evaluation sees each once"
            )
        self.log_dict({f"{stage}/{name}": value for name, value in counted.items()}, prog_bar=True)


def put_channels_last(network: nn.Module) -> None:
    """Put the channels of 4-dimensional parameters last in memory, in place."""
    # Not `Module.to(memory_format=...)`, which refuses 5-dimensional parameters.
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def network_of(module: nn.Module) -> nn.Module:
    """The network that a LightningModule trains: a classifier's `network`, else the module."""
    return module.network if isinstance(module, ImageClassifier) else module


def _settings(kind: type[Settings], given: Settings | dict[str, Any]) -> Settings:
    return kind(**given) if isinstance(given, dict) else given
