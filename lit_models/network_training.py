"""What training a network needs, whatever the task: its loss watched, its rates, its weights."""

import copy
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass, replace
from typing import Any, TypeVar

import lightning as L
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from lit_models.finite_loss import FiniteLossGuard, NonFiniteLossError
from lit_models.metrics import MeanLoss
from lit_models.optimization import (
    OptimizerSettings,
    ScheduleSettings,
    build_optimizer,
    build_scheduler,
)
from lit_models.registry import create_network
from lit_models.state_dicts import first_differences

Settings = TypeVar("Settings")


class NetworkTraining(L.LightningModule):
    """Base of the modules that train a network; a subclass makes it, and says its loss.

    Operators are put in by classes that stand between this one and a task's: they override
    `build_network` and pass all other arguments on.

    Args:
        backbone: Name of the network, any of `timm.list_models()` (ours included).
        optimizer: Optimiser settings.
        schedule: Learning-rate settings.

    Attributes:
        network: The network that is trained.
        selection_metric: Metric of the validation by which the best epoch is chosen.
    """

    network: nn.Module
    selection_metric: str

    def __init__(
        self,
        backbone: str,
        optimizer: OptimizerSettings | dict[str, Any],
        schedule: ScheduleSettings | dict[str, Any],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.optimizer_settings = settings_of(OptimizerSettings, optimizer)
        self.schedule_settings = settings_of(ScheduleSettings, schedule)
        self._finite_loss = FiniteLossGuard()
        self.train_loss = MeanLoss()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the one in which Lightning notes its hooks, without a search.

        It is set fifty times a step, and `nn.Module` looks for a parameter of that name each time.
        """
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def build_network(self, backbone: str, **options: Any) -> nn.Module:
        """Return the backbone; a family overrides this to put its operator in."""
        return create_network(backbone, **options)

    def parameters_of_no_layer(self, network: nn.Module) -> list[nn.Parameter]:
        """Parameters that a family keeps for many layers: not frozen or slowed down with any."""
        return []

    def keep_plain_hparams(self) -> None:
        """Hold settings as plain dictionaries, so that a checkpoint loads with weights_only."""
        for name, value in self.hparams.items():
            if is_dataclass(value) and not isinstance(value, type):
                self.hparams[name] = asdict(value)

    def configure_model(self) -> None:
        """Shard the network's parameters over the devices, where the strategy is FSDP2.

        Its layers may share parameters, so the network is sharded as one: all of them are gathered
        for forward and backward; between these, and in gradients and optimiser, they are shards.
        """
        if self.device_mesh is not None and not isinstance(self.network, FSDPModule):
            fully_shard(self.network, mesh=self.device_mesh["data_parallel"])

    def deployed(self) -> nn.Module:
        """Return a copy of the network as it would be deployed, operators folded, in eval mode."""
        return copy.deepcopy(self.network).eval()

    def watch(self, loss: Tensor, batch_idx: int, indices: Tensor) -> None:
        """Stop training where the loss is not finite, count it, and log it every few steps.

        Args:
            loss: Mean loss of the batch, a scalar.
            batch_idx: Number of the batch in its epoch.
            indices: Which samples the batch has, `(N,)`.

        Raises:
            NonFiniteLossError: This loss, or on a GPU the one before it, is not finite.
        """
        trainer = self._trainer_facts
        step: int = trainer.global_step
        where = f"epoch {trainer.current_epoch}, batch {batch_idx}"
        loss = loss.detach()
        self._finite_loss.check(loss, step, where, indices)
        self.train_loss.update(loss, len(indices))
        every = trainer.log_every_n_steps  # 0: never
        if every and (step + 1) % every == 0:  # when Lightning writes what is logged
            self.log("train/loss_step", loss, prog_bar=True, batch_size=len(indices))

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss."""
        self.log("train/loss", self.train_loss.compute())
        self.train_loss.reset()

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

    def trained_parameters(self) -> nn.Module | list[dict[str, Any]]:
        """What the optimiser gets: the network, whose parameters it groups, or such groups."""
        return self.network

    def configure_optimizers(self) -> Any:
        """Optimiser and per-step schedule."""
        optimizer = build_optimizer(self.trained_parameters(), self.optimizer_settings)
        total_steps = int(self.trainer.estimated_stepping_batches)
        scheduler = build_scheduler(
            optimizer,
            self.schedule_settings,
            base_lr=self.optimizer_settings.lr,
            steps_per_epoch=self._steps_per_epoch(total_steps),
            total_steps=total_steps,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _steps_per_epoch(self, total_steps: int) -> float:
        """Steps of an epoch; where fewer are made than there are, the schedule is compressed."""
        trainer = self.trainer
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            return total_steps / trainer.max_epochs
        trainer.fit_loop.setup_data()  # without a number of epochs nobody has counted batches yet
        return math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)

    @property
    def _trainer_facts(self) -> Any:
        # The Trainer has these attributes, but not in its type.
        return self.trainer

    def _log_evaluation(
        self, stage: str, counted: dict[str, Tensor], samples: int, limit: int | float | None
    ) -> None:
        """Log what an evaluation counted, if it saw each sample of the data set once.

        Args:
            stage: `val` or `test`.
            counted: What is logged, by name.
            samples: Number of samples that were seen on all devices.
            limit: The Trainer's limit on the batches of the stage.
        """
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


def settings_of(kind: type[Settings], given: Settings | dict[str, Any]) -> Settings:
    """The settings, also where a checkpoint has them as a dictionary."""
    return kind(**given) if isinstance(given, dict) else given
