"""Detectors: any operator on any backbone, what is trained at which rate, where weights lie."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from callbacks import DoConvFusionCallback, KWAttentionTemperatureCallback
from experiments.cli import build
from lit_models import (
    Detector,
    DOConvDetector,
    ImageClassifier,
    KWClassifier,
    KWDetector,
    ParameterFreeDetector,
)
from lit_models.complexity import count_parameters
from lit_models.detection import FeatureSettings, RCNNSettings
from lit_models.do_conv import DOConv2d
from lit_models.kernel_warehouse import kernel_layers, temperature
from lit_models.optimization import OptimizerSettings

SMALL = RCNNSettings(
    min_size=64,
    max_size=96,
    pyramid_channels=16,
    rpn_samples=16,
    proposals_before_nms=40,
    proposals=20,
    test_proposals=20,
    roi_samples=16,
    score_threshold=0.0,
    detections=5,
)
CONFIGS = Path("configs/kernel_warehouse/coco")


def small(kind: type[Detector], backbone: str, **options: Any) -> Detector:
    return kind(backbone, num_classes=3, rcnn=SMALL, **options)


def on_meta(kind: type[Detector], backbone: str, **options: Any) -> Detector:
    with torch.device("meta"):
        return small(kind, backbone, **options)


def batch() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    masks = torch.zeros(1, 64, 80, dtype=torch.uint8)
    masks[0, 10:50, 20:60] = 1
    there = {
        "boxes": torch.tensor([[20.0, 10.0, 60.0, 50.0]]),
        "labels": torch.tensor([2]),
        "masks": masks,
    }
    empty = {
        "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64),
        "masks": torch.zeros(0, 72, 64, dtype=torch.uint8),
    }
    return [torch.rand(3, 64, 80), torch.rand(3, 72, 64)], [there, empty]


@pytest.mark.parametrize(
    ("kind", "backbone"),
    [
        (Detector, "mobilenetv3_small_050"),
        (DOConvDetector, "mobilenetv3_small_050"),
        (KWDetector, "mobilenetv3_small_050"),
        (ParameterFreeDetector, "mobilenetv3_small_050"),
        (KWDetector, "kw1d2x_mobilenetv2_050"),
    ],
)
def test_every_operator_learns_and_finds_on_a_backbone(kind: type[Detector], backbone: str) -> None:
    torch.manual_seed(0)
    detector = small(kind, backbone).train()
    images, targets = batch()
    losses = detector.network(images, targets)
    assert set(losses) == set(detector.part_losses)
    sum(losses.values()).backward()
    without = [n for n, p in detector.network.named_parameters() if p.grad is None]
    assert not without  # DDP waits for a gradient of every parameter
    detector.eval()
    with torch.no_grad():
        found = detector._detect(images)
    assert found[0]["masks"].shape[1:] == (64, 80)
    assert found[0]["masks"].dtype == torch.bool


def test_training_leaves_frozen_statistics_as_they_are() -> None:
    features = FeatureSettings(frozen_levels=1, frozen_norms=True)
    detector = small(Detector, "mobilenetv3_small_050", features=features)
    before = {name: value.clone() for name, value in detector.maps.named_buffers()}
    parameter = next(p for p in detector.maps.parameters() if p.requires_grad)
    start = parameter.detach().clone()
    batches = [(*batch(), torch.arange(2)) for _ in range(3)]
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(detector, DataLoader(batches, batch_size=None))
    assert not torch.equal(parameter, start)
    for name, value in detector.maps.named_buffers():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)


def test_an_image_without_objects_trains_too() -> None:
    detector = small(Detector, "mobilenetv3_small_050").train()
    images, targets = batch()
    losses = detector.network(images[1:], targets[1:])
    assert all(loss.isfinite() for loss in losses.values())


def test_faster_rcnn_has_no_masks() -> None:
    options = RCNNSettings(masks=False)
    with torch.device("meta"):
        detector = Detector("resnet18", rcnn=options)
    assert not any("mask" in name for name, _ in detector.network.named_parameters())
    assert detector.selection_metric == "val/box_ap"


def test_a_deployed_do_conv_detector_is_the_plain_one() -> None:
    detector = on_meta(DOConvDetector, "resnet18")
    assert any(isinstance(module, DOConv2d) for module in detector.maps.modules())
    plain = on_meta(Detector, "resnet18")
    assert detector.deployed().state_dict().keys() == plain.network.state_dict().keys()


def test_cells_are_trained_where_the_rest_of_the_stage_is_frozen() -> None:
    detector = on_meta(KWDetector, "kw1x_resnet18", features=FeatureSettings(frozen_levels=1))
    stage = detector.maps.network.get_submodule("layer1")
    assert {layer.warehouse.cells.requires_grad for layer in kernel_layers(stage)} == {True}
    frozen = {n for n, p in stage.named_parameters() if not p.requires_grad}
    assert frozen
    assert not any(name.endswith("cells") for name in frozen)


def test_the_detectors_differ_from_the_baseline_by_the_published_parameters() -> None:
    # M parameters that KernelWarehouse adds, as quoted by later work (Core-KAN).
    counts = {
        name: count_parameters(build([CONFIGS / f"{name}.yaml"])[0].network)  # type: ignore[arg-type]
        for name in ("resnet50", "resnet50_kw1x", "resnet50_kw4x")
    }
    added = {name: round((count - counts["resnet50"]) / 1e6, 1) for name, count in counts.items()}
    assert added == {"resnet50": 0.0, "resnet50_kw1x": 2.5, "resnet50_kw4x": 76.5}


def test_mask_rcnn_has_torchvisions_parameters() -> None:
    # 44,401,393 with 91 classes, whose normalisation has no parameters (here 53,120).
    with torch.device("meta"):
        detector = Detector("resnet50", num_classes=90)
    assert count_parameters(detector.network) == 44_401_393 + 53_120


def test_rates_fall_from_layer_to_layer_as_in_convnexts_constructor() -> None:
    detector: Any = build([CONFIGS / "convnext_tiny_kw1x.yaml"])[0]
    names = {parameter: name for name, parameter in detector.network.named_parameters()}
    rates = {
        names[parameter]: (round(group["lr_scale"], 6), group["weight_decay"])
        for group in detector.trained_parameters()
        for parameter in group["params"]
    }
    assert len(rates) == len(names)
    body = "backbone.maps.network."
    powers = {
        "stem.1.weight": 7,
        "stages.0.blocks.2.norm.weight": 6,
        "stages.1.downsample.0.weight": 5,
        "stages.1.blocks.0.norm.weight": 5,
        "stages.2.blocks.2.norm.weight": 4,
        "stages.2.blocks.3.norm.weight": 3,
        "stages.2.blocks.8.norm.weight": 2,
        "stages.3.downsample.0.weight": 1,
        "stages.3.blocks.0.norm.weight": 1,
    }
    for name, power in powers.items():
        assert rates[body + name] == (round(0.95**power, 6), 0.0), name
    cells = [rate for name, rate in rates.items() if name.endswith("cells")]
    assert set(cells) == {(1.0, 0.05)}
    assert rates["backbone.maps.norms.0.weight"] == (1.0, 0.0)
    assert rates["roi_heads.box_head.fc6.weight"] == (1.0, 0.05)
    assert rates[body + "stages.0.blocks.0.gamma"] == (round(0.95**6, 6), 0.05)


def test_only_the_attentions_norms_have_no_decay_in_the_resnet_rows() -> None:
    detector: Any = build([CONFIGS / "resnet50_kw1x.yaml"])[0]
    names = {parameter: name for name, parameter in detector.network.named_parameters()}
    exempt = {
        names[parameter]
        for group in detector.trained_parameters()
        for parameter in group["params"]
        if group["weight_decay"] == 0
    }
    assert exempt
    assert all(".norm1." in name for name in exempt)


def start(detector: Detector, monkeypatch: pytest.MonkeyPatch, resumed: bool = False) -> None:
    facts = type("Facts", (), {"ckpt_path": "last.ckpt" if resumed else None})()
    monkeypatch.setattr(type(detector), "_trainer_facts", facts, raising=False)
    detector.setup("fit")


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors", "authors"])
def test_a_backbone_starts_from_a_classification_network(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    classes = 7 if kind == "checkpoint" else 1000
    name = "mobilenetv2_050" if kind != "authors" else "kw_baseline_mobilenetv2_050"
    classifier = ImageClassifier(name, num_classes=classes)
    file = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pth")
    if kind == "checkpoint":
        state = {
            "state_dict": classifier.state_dict(),
            "hyper_parameters": dict(classifier.hparams),
        }
        torch.save(state, file)
    elif kind == "safetensors":
        save_file(classifier.network.state_dict(), file)
    else:
        from lit_models.official import official_state

        torch.save({"model": official_state(classifier.network)}, file)
    detector = small(Detector, name, backbone_weights=str(file))
    start(detector, monkeypatch)
    ours, theirs = detector.maps.network.state_dict(), classifier.network.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def test_a_resumed_run_needs_no_weights_to_start_from(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = on_meta(Detector, "resnet18", backbone_weights="nowhere.pth")
    start(detector, monkeypatch, resumed=True)
    with pytest.raises(FileNotFoundError, match=r"no backbone_weights at nowhere\.pth: train"):
        start(detector, monkeypatch)


def test_weights_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = KWClassifier("kw1d2x_mobilenetv2_050")
    file = tmp_path / "other.ckpt"
    torch.save({"state_dict": other.state_dict()}, file)
    detector = small(Detector, "mobilenetv2_050", backbone_weights=str(file))
    with pytest.raises(ValueError, match=r"backbone_weights .*these are the weights of another"):
        start(detector, monkeypatch)


def test_settings_survive_in_a_checkpoint() -> None:
    detector = on_meta(Detector, "resnet18", optimizer=OptimizerSettings(name="adamw"))
    assert detector.hparams["rcnn"]["pyramid_channels"] == 16
    assert detector.hparams["optimizer"]["name"] == "adamw"
    with torch.device("meta"):
        again = Detector(**dict(detector.hparams))
    assert again.rcnn_settings == SMALL


def test_the_fusion_callback_says_why_it_takes_no_detector() -> None:
    detector = on_meta(DOConvDetector, "resnet18")
    with pytest.raises(ValueError, match=r"a detector has none of; take the callback out"):
        DoConvFusionCallback().setup(L.Trainer(logger=False, barebones=True), detector, "fit")


def test_the_temperature_callback_moves_a_detectors_temperature() -> None:
    detector = small(KWDetector, "kw1d2x_mobilenetv2_050")
    trainer = L.Trainer(logger=False, barebones=True)
    KWAttentionTemperatureCallback(start=0.5).setup(trainer, detector, "fit")
    assert temperature(detector.network) == 0.5
