"""Object detection and instance segmentation: losses, average precision, frozen backbones."""

from typing import Any

from torch import Tensor, nn

from lit_models.detection import (
    AveragePrecision,
    FeatureMaps,
    FeatureSettings,
    RCNNSettings,
    build_rcnn,
    load_pretrained,
    parameter_groups,
)
from lit_models.detection.results import coco_results
from lit_models.metrics import MeanLoss
from lit_models.network_training import NetworkTraining, settings_of
from lit_models.optimization import OptimizerSettings, ScheduleSettings

# Images of one batch, `(3, H, W)` with values from 0 to 1, their objects, and their numbers.
Batch = tuple[list[Tensor], list[dict[str, Any]], Tensor]
Detections = list[dict[str, Tensor]]

_DEFAULT_FEATURES = FeatureSettings()
_DEFAULT_RCNN = RCNNSettings()
_DEFAULT_OPTIMIZER = OptimizerSettings()
_DEFAULT_SCHEDULE = ScheduleSettings()

LOSSES = ("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")


class Detector(NetworkTraining):
    """Mask R-CNN or Faster R-CNN with a feature pyramid, on any backbone that gives feature maps.

    Batches are `(images, targets, indices)`: images `(3, H, W)` of any sizes with values from 0 to
    1; for each image a dictionary with `boxes (N, 4)` (x1, y1, x2, y2), `labels (N,)` from 1, and
    `masks (N, H, W)`; for evaluation `area`, `iscrowd` and `image_id`, too; indices `(B,)` say
    which images these are. `lit_models.detection.rcnn` says what differs from the papers' toolbox.

    Args:
        backbone: Name of the network, any of `timm.list_models()` with feature maps (ours too).
        num_classes: Number of classes, the background not counted; comes from the data module.
        backbone_args: Further options of the network, for example `{drop_path_rate: 0.1}`.
        backbone_weights: Weights that training starts from: the checkpoint of a classification run,
            a file that `convert` wrote, or the authors' own; None for none.
        features: Which feature maps are used, and what of the backbone is frozen.
        rcnn: What the detector is made of, and how it is trained and tested.
        optimizer: Optimiser settings.
        schedule: Learning-rate settings.
        undecayed: Parameters whose names hold one of these have no weight decay.
        blocks_per_layer: Blocks of a stage that layer decay counts as one layer.

    Raises:
        ValueError: No network has the name (the message has the nearest ones), or it has not the
            feature maps.
    """

    def __init__(
        self,
        backbone: str,
        num_classes: int = 80,
        backbone_args: dict[str, Any] | None = None,
        backbone_weights: str | None = None,
        features: FeatureSettings = _DEFAULT_FEATURES,
        rcnn: RCNNSettings = _DEFAULT_RCNN,
        optimizer: OptimizerSettings = _DEFAULT_OPTIMIZER,
        schedule: ScheduleSettings = _DEFAULT_SCHEDULE,
        undecayed: list[str] | None = None,
        blocks_per_layer: int = 1,
    ) -> None:
        super().__init__(backbone, optimizer, schedule)
        self.save_hyperparameters(logger=False)
        self.keep_plain_hparams()
        self.backbone_args = backbone_args or {}
        self.backbone_weights = backbone_weights
        self.feature_settings = settings_of(FeatureSettings, features)
        self.rcnn_settings = settings_of(RCNNSettings, rcnn)
        self.selection_metric = "val/mask_ap" if self.masks else "val/box_ap"
        self.undecayed = undecayed or []
        self.blocks_per_layer = blocks_per_layer
        maps = FeatureMaps(self._classification_network(), self.feature_settings)
        for parameter in self.parameters_of_no_layer(maps.network):
            parameter.requires_grad_()
        self.network = build_rcnn(maps, num_classes, self.rcnn_settings)
        self.part_losses = nn.ModuleDict({name: MeanLoss() for name in LOSSES})
        self.precision = {stage: AveragePrecision(self.masks) for stage in ("val", "test")}

    @property
    def maps(self) -> FeatureMaps:
        """The backbone's feature maps."""
        maps: FeatureMaps = self.network.get_submodule("backbone.maps")  # type: ignore[assignment]
        return maps

    @property
    def masks(self) -> bool:
        """Whether masks are predicted."""
        return self.rcnn_settings.masks

    def setup(self, stage: str) -> None:
        """Load the backbone's weights where training begins, not where it is resumed.

        Raises:
            FileNotFoundError: There are no such weights.
            ValueError: They are another network's.
        """
        if stage == "fit" and self.backbone_weights and not self._trainer_facts.ckpt_path:
            load_pretrained(
                self.maps,
                self.feature_settings,
                self.backbone_weights,
                lambda classes: self._classification_network(num_classes=classes),
            )

    def forward(self, images: list[Tensor]) -> Detections:
        """Detections in `images`: `boxes`, `labels`, `scores` and `masks (D, 1, H, W)` of each."""
        found: Detections = self.network(images)
        return found

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch, the sum of its parts; stops training where it is not finite."""
        images, targets, indices = batch
        parts: dict[str, Tensor] = self.network(images, targets)
        loss = sum(parts.values(), start=images[0].new_zeros(()))
        self.watch(loss, batch_idx, indices)
        for name, value in parts.items():
            self.part_losses[name].update(value.detach(), len(indices))  # type: ignore[operator]
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss, and its parts of the batches since it was begun or resumed."""
        super().on_train_epoch_end()
        for name, part in self.part_losses.items():
            if self.masks or name != "loss_mask":
                self.log(f"train/{name}", part.compute())  # type: ignore[operator]
            part.reset()  # type: ignore[operator]

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Count one batch; returns its `detections`, which have boolean masks `(D, H, W)`."""
        return self._evaluation_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Count one batch; returns its `detections`, which have boolean masks `(D, H, W)`."""
        return self._evaluation_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Detections of one batch in COCO's result format: `index (N,)` and a list for each."""
        images, targets, indices = batch
        categories = self._trainer_facts.datamodule.category_ids
        results = [
            coco_results(found, int(target["image_id"]), categories)
            for found, target in zip(self._detect(images), targets, strict=True)
        ]
        return {"index": indices, "results": results}

    def on_validation_epoch_end(self) -> None:
        """Log the average precision of the validation."""
        self._log_precision("val", self.trainer.limit_val_batches)

    def on_test_epoch_end(self) -> None:
        """Log the average precision of the test."""
        self._log_precision("test", self.trainer.limit_test_batches)

    def trained_parameters(self) -> list[dict[str, Any]]:
        """The parameters that are not frozen, with their weight decay and part of the rate."""
        backbone = self.maps.network
        return parameter_groups(
            self.network,
            backbone,
            self.optimizer_settings,
            undecayed=self.undecayed,
            blocks_per_layer=self.blocks_per_layer,
            full_rate=self.parameters_of_no_layer(backbone),
        )

    def _classification_network(self, **options: Any) -> nn.Module:
        return self.build_network(self.backbone, **options, **self.backbone_args)

    def _detect(self, images: list[Tensor]) -> Detections:
        found: Detections = self(images)
        for each in found:
            if "masks" in each:
                each["masks"] = each["masks"][:, 0] >= 0.5
        return found

    def _evaluation_step(self, batch: Batch, stage: str) -> dict[str, Any]:
        images, targets, indices = batch
        detections = self._detect(images)
        self.precision[stage].update(detections, targets, indices)
        return {"detections": detections}

    def _log_precision(self, stage: str, limit: int | float | None) -> None:
        values, images = self.precision[stage].compute()
        self.precision[stage].reset()
        self._log_evaluation(stage, values, images, limit)
