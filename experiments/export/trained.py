"""What is exported: a checkpoint's network, real images of its data, and the facts about both."""

import copy
from pathlib import Path
from typing import Any

import lightning as L
import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

import lit_models
from experiments.checkpoint_io import SafeCheckpointIO
from experiments.cli import build
from experiments.compose import ConfigError
from experiments.environment import environment_facts
from experiments.export.formats import Source
from experiments.record import RunRecord
from lit_models import ImageClassifier
from lit_models.complexity import count_parameters
from lit_models.kernel_warehouse import kernel_layers, temperature
from lit_models.registry import create_network

# What a classifier takes that shapes its training and not its network.
_TRAINING = {"label_smoothing", "optimizer", "schedule", "mix", "channels_last", "compile"}


class TrainedClassifier:
    """A run's classifier with the weights of a checkpoint, on the CPU.

    The weights are those that the run validated: of a run with an exponential moving average the
    averaged ones, which its checkpoints hold as the state.

    Args:
        folder: The run folder, with its resolved config.
        checkpoint: The checkpoint.

    Attributes:
        module: The classifier.
        data: The run's data module.
        network: The network as it was trained, in evaluation mode.
        deployed: The same with its operators folded.

    Raises:
        ConfigError: The run trained no image classifier.
        ValueError: The checkpoint cannot be read, or is another network's.
    """

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        module, data = build([folder / "config.yaml"], device="cpu")
        if not isinstance(module, ImageClassifier):
            raise ConfigError(
                f"{folder} trained a {type(module).__name__}; only image classifiers are exported"
            )
        self.folder, self.checkpoint = folder, checkpoint
        self.state = SafeCheckpointIO().load_checkpoint(checkpoint)
        module.load_weights(self.state)
        self.module = module
        self.data: Any = data
        # A copy of a network is not compiled.
        self.network = copy.deepcopy(module.network).eval()
        self.deployed = module.deployed()

    @property
    def mean(self) -> list[float] | None:
        """Mean of every channel that the data module subtracts; None if it normalises nothing."""
        mean = _evaluation(self.data).mean
        return None if mean is None else list(mean)

    @property
    def std(self) -> list[float] | None:
        """Standard deviation of every channel that the data module divides by."""
        std = _evaluation(self.data).std
        return None if std is None else list(std)

    @property
    def temperature(self) -> float | None:
        """The temperature of KernelWarehouse; None for other networks."""
        has_one = any(True for _ in kernel_layers(self.network))
        return temperature(self.network) if has_one else None

    def images(self, count: int, size: tuple[int, int] | None) -> Tensor:
        """The first `count` test images, or all there are, as the network gets them.

        Args:
            count: Number of images.
            size: Height and width that they are resized to; None leaves them as they are.

        Raises:
            ConfigError: The network takes no images of this size.
        """
        self.data.eval_batch_size = min(count, self.data.eval_batch_size)
        if hasattr(self.data, "num_workers"):
            self.data.num_workers = 0  # worker processes are not worth their start
        self.data.prepare_data()
        self.data.setup("test")
        taken: list[Tensor] = []
        for images, *_ in self.data.test_dataloader():
            taken.append(images)
            if sum(map(len, taken)) >= count:
                break
        found = torch.cat(taken)[:count]
        if size is None:
            return found
        found = interpolate(found, size=size, mode="bilinear", antialias=True)
        try:
            with torch.no_grad():
                self.network(found[:1])
        except Exception as error:
            reason = str(error).strip().splitlines()[0]
            height, width = size
            raise ConfigError(f"--size {height}x{width} does not suit the network: {reason}") from (
                error
            )
        return found

    def source(self) -> Source:
        """How to make the network that the deployed weights load into: a plain one, if it is."""
        facts = self.module.hparams
        backbone = facts["backbone"]
        options = {key: facts[key] for key in ("num_classes", "in_chans")}
        options |= facts["backbone_args"] or {}
        options.pop("pretrained", None)  # the weights are replaced
        if _form(create_network(backbone, **options)) == _form(self.deployed):
            ours = timm.models.model_entrypoint(backbone).__module__.startswith("lit_models")
            # Importing lit_models makes timm know this suite's networks.
            imports = ("timm", "lit_models") if ours else ("timm",)
            return Source(imports, f"timm.create_model({_call(backbone, options)})")
        kind = type(self.module)
        package = "lit_models" if hasattr(lit_models, kind.__name__) else kind.__module__
        options = {
            key: value
            for key, value in facts.items()
            if value is not None and key not in _TRAINING and not key.startswith("_")
        }
        options.pop("backbone")
        expression = f"{package}.{kind.__name__}({_call(backbone, options)}).deployed()"
        return Source((package,), expression)

    def facts(self, images: Tensor, normalises: bool) -> dict[str, Any]:
        """What somebody who gets the exported file has to know.

        Args:
            images: Some images as the network gets them.
            normalises: Whether the exported network normalises by itself.
        """
        record = RunRecord.read(self.folder)
        trained = record.facts if record else {}
        evaluation = _evaluation(self.data)
        files = getattr(self.data, "test_images", None)
        return {
            "row": trained.get("row"),
            "run_id": trained.get("run_id", self.folder.name),
            "checkpoint": self.checkpoint.name,
            "epoch": self.state["epoch"],
            "step": self.state["global_step"],
            "weights": "averaged" if "current_model_state" in self.state else "trained",
            "temperature": self.temperature,
            "model": type(self.module).__name__,
            "backbone": self.module.hparams["backbone"],
            "parameters": count_parameters(self.deployed),
            "input": {
                "shape": ["batch", *images.shape[1:]],
                "pixels": "from 0 to 1" if normalises or self.mean is None else "normalised",
                "mean": self.mean,
                "std": self.std,
                "normalised_by": "the network" if normalises else "the caller",
                "interpolation": getattr(evaluation, "interpolation", None),
                "crop_pct": getattr(evaluation, "crop_pct", None),
            },
            "num_classes": self.data.num_classes,
            "classes": getattr(files, "classes", None),
            "trained_with": {key: trained.get(key) for key in ("git", "versions")},
            "exported_with": {key: environment_facts()[key] for key in ("git", "versions")},
        }


class Normalising(nn.Module):
    """A network behind the normalisation of its images.

    Args:
        network: Takes normalised images `(N, C, H, W)`.
        mean: Mean of every channel of pixels from 0 to 1.
        std: Standard deviation of every channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits of pixels from 0 to 1."""
        logits: Tensor = self.network((pixels - self.mean) / self.std)
        return logits

    def pixels(self, images: Tensor) -> Tensor:
        """Return the pixels from 0 to 1 that `images` were normalised from."""
        return images * self.std + self.mean


def _evaluation(data: L.LightningDataModule) -> Any:
    """What knows how evaluated images are prepared: a transform, or the data module itself."""
    return getattr(data, "eval_transform", data)


def _form(network: nn.Module) -> tuple[dict[str, Any], dict[str, torch.Size]]:
    """Types of all modules and their attention functions, shapes of all weights."""
    modules = {
        name: (type(module), getattr(module, "function", None))
        for name, module in network.named_modules()
    }
    return modules, {key: value.shape for key, value in network.state_dict().items()}


def _call(backbone: str, options: dict[str, Any]) -> str:
    return ", ".join([repr(backbone), *(f"{key}={value!r}" for key, value in options.items())])
