"""Folds DO-Conv: once per evaluation instead of once per batch, and for good at the end of fit."""

import copy
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities import move_data_to_device
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lit_models.classifier import ImageClassifier, network_of
from lit_models.detector import Detector
from lit_models.do_conv import (
    DOConv2d,
    OutputDifference,
    fuse,
    hold_kernels,
    output_difference,
    release_kernels,
)


class DoConvFusionCallback(L.Callback):
    """Folds every DO-Conv into the plain convolution that computes the same (DO-Conv, Section 3).

    In validation, test and prediction the folded kernels are computed once, at the first batch, and
    used for all. At the end of fit the folded network is written as `fused.safetensors`: a plain
    state dict that loads strictly into the plain backbone, without this project. The file is read
    back and compared with the trained network on real batches. In test the folded network runs
    beside the trained one and its accuracy is logged as `test/acc1_fused`. The module in training
    is never touched; with weight averaging the averaged weights are folded.

    Args:
        dirpath: Folder of the fused files; None is the run's `checkpoints`.
        verify_batches: Number of batches that the written file is compared on, at least 1.
        every_checkpoint: Write a fused file beside each checkpoint, too.

    Raises:
        ValueError: The network holds no DO-Conv, or is a detector: two detectors that differ by
            rounding may find different objects, so their outputs cannot be compared one by one.
    """

    def __init__(
        self,
        dirpath: str | None = None,
        verify_batches: int = 4,
        every_checkpoint: bool = False,
    ) -> None:
        if verify_batches < 1:
            raise ValueError(f"verify_batches is {verify_batches}; it must be at least 1")
        self.dirpath = dirpath
        self.verify_batches = verify_batches
        self.every_checkpoint = every_checkpoint
        self.facts: dict[str, Any] = {}
        self._fused: nn.Module | None = None
        self._accuracy: MulticlassAccuracy | None = None
        self._difference = OutputDifference(0.0, 0.0)

    def run_facts(self) -> dict[str, Any]:
        """What the run record keeps of this callback."""
        return {"fusion": self.facts} if self.facts else {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check that there is something to fold, and to compare."""
        if isinstance(pl_module, Detector):
            raise ValueError(
                "DoConvFusionCallback compares logits, which a detector has none of; take the "
                "callback out: the detector's deployed() returns the folded network"
            )
        if not any(isinstance(module, DOConv2d) for module in network_of(pl_module).modules()):
            raise ValueError(
                "DoConvFusionCallback found no DO-Conv in the network; take the callback out, or "
                "train lit_models.DOConvClassifier"
            )

    # --- evaluation ---------------------------------------------------------------------------

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Fold at the first batch: by then weight averaging has put its weights in."""
        if batch_idx == 0:
            hold_kernels(network_of(pl_module))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let go of the folded kernels: training changes what they were folded from."""
        release_kernels(network_of(pl_module))

    def on_test_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Fold, and set the folded network beside the trained one."""
        if batch_idx > 0:
            return
        network = network_of(pl_module)
        hold_kernels(network)
        self._fused = fuse(network).network
        self._difference = OutputDifference(0.0, 0.0)
        self._accuracy = None

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Run the folded network on the same batch."""
        if self._fused is None or not isinstance(outputs, dict):
            return
        images, targets = batch[0], batch[1]
        if isinstance(pl_module, ImageClassifier):
            images = pl_module.arranged(images)
        logits = outputs["logits"]
        with trainer.precision_plugin.forward_context():
            fused_logits = self._fused(images)
        if self._accuracy is None:
            classes = logits.shape[1]
            self._accuracy = MulticlassAccuracy(classes, average="micro").to(logits.device)
        self._accuracy.update(fused_logits, targets)
        self._difference = self._difference.widened(logits, fused_logits)

    def on_test_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the folded network's accuracy."""
        if self._accuracy is not None:
            pl_module.log("test/acc1_fused", self._accuracy.compute())
            self.facts["test_difference"] = self._difference._asdict()
        self._fused = self._accuracy = None
        release_kernels(network_of(pl_module))

    on_predict_batch_start = on_validation_batch_start
    on_predict_epoch_end = on_validation_epoch_end

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Let go of the folded kernels."""
        self._fused = self._accuracy = None
        release_kernels(network_of(pl_module))

    # --- fused checkpoints --------------------------------------------------------------------

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the folded network, read it back and compare it with the trained one."""
        if not trainer.is_global_zero:
            return
        network = _evaluated_network(trainer, pl_module, {"state_dict": pl_module.state_dict()})
        fused = fuse(network)
        path = self._folder(trainer) / "fused.safetensors"
        _write(fused.network, path)
        fused.network.load_state_dict(load_file(path), strict=True)
        difference = OutputDifference(0.0, 0.0)
        count = 0
        for images in self._images(trainer, pl_module):
            difference = difference.joined(output_difference(network, fused.network, images))
            count += len(images)
        self.facts |= {
            "file": path.name,
            "folded_layers": len(fused.replaced),
            "verified_images": count,
            "verified_difference": difference._asdict(),
        }

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write a fused file beside the checkpoint, where that was asked for."""
        if not (self.every_checkpoint and trainer.is_global_zero):
            return
        network = _evaluated_network(trainer, pl_module, checkpoint)
        name = f"fused-epoch={trainer.current_epoch}-step={trainer.global_step}.safetensors"
        _write(fuse(network).network, self._folder(trainer) / name)

    def _folder(self, trainer: L.Trainer) -> Path:
        return Path(self.dirpath or Path(trainer.default_root_dir) / "checkpoints")

    def _images(self, trainer: L.Trainer, pl_module: L.LightningModule) -> list[Tensor]:
        datamodule: Any = getattr(trainer, "datamodule", None)
        loaders = [trainer.val_dataloaders, trainer.train_dataloader]
        if datamodule is not None:
            datamodule.setup("test")
            loaders.insert(0, datamodule.test_dataloader())
        loader = next(loader for loader in loaders if loader)
        batches = islice(iter(loader), self.verify_batches)
        return [move_data_to_device(batch[0], pl_module.device) for batch in batches]


def _evaluated_network(
    trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
) -> nn.Module:
    """A copy of the network with the weights that evaluation uses: averaged ones, if there are.

    The trained network may hold others, also when the fit of a finished run is resumed.
    """
    network = copy.deepcopy(network_of(pl_module))
    prefix = "network."
    state = _evaluated_state(trainer, pl_module, checkpoint)
    network.load_state_dict(
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    )
    return network


def _evaluated_state(
    trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
) -> dict[str, Tensor]:
    """The weights that evaluation uses, whichever order the callbacks are called in."""
    seen: dict[str, dict[str, Tensor]] = {"state_dict": checkpoint["state_dict"]}
    if "current_model_state" not in checkpoint:
        for callback in getattr(trainer, "callbacks", []):
            if isinstance(callback, WeightAveraging):
                callback.on_save_checkpoint(trainer, pl_module, seen)
    return seen["state_dict"]


def _write(network: nn.Module, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    aside = path.with_name(f".{path.name}.writing")
    try:
        save_file(state, aside)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
