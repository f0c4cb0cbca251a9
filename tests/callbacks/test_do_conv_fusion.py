from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from safetensors.torch import load_file
from torch.utils.data import DataLoader, TensorDataset

from callbacks import DoConvFusionCallback
from callbacks.run_record import RunRecordCallback
from datamodules import DigitsDataModule
from lit_models import DOConvClassifier, ImageClassifier
from lit_models.do_conv import DOConv2d, fuse
from lit_models.optimization import OptimizerSettings
from lit_models.registry import create_network

SETTINGS = OptimizerSettings(name="adam", lr=0.003)


def module() -> DOConvClassifier:
    torch.manual_seed(0)
    return DOConvClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1, optimizer=SETTINGS)


def data() -> DigitsDataModule:
    return DigitsDataModule(batch_size=64, holdout=100, seed=0)


def trainer(folder: Path, *callbacks: L.Callback, **options: Any) -> L.Trainer:
    options = {"max_epochs": 2, "limit_train_batches": 5, **options}
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def test_the_fused_file_loads_strictly_into_the_plain_backbone(tmp_path: Path) -> None:
    fusion, model, images = DoConvFusionCallback(), module(), torch.rand(5, 1, 28, 28)
    trainer(tmp_path, fusion).fit(model, datamodule=data())
    plain = create_network("mnist_demo_pytorch")
    plain.load_state_dict(load_file(tmp_path / "checkpoints/fused.safetensors"), strict=True)
    torch.testing.assert_close(plain.eval()(images), model.eval()(images), rtol=1e-5, atol=1e-6)


def test_the_difference_is_measured_on_real_batches_and_recorded(tmp_path: Path) -> None:
    fusion = DoConvFusionCallback(verify_batches=2)
    trainer(tmp_path, fusion).fit(module(), datamodule=data())
    facts = fusion.run_facts()["fusion"]
    assert facts["verified_images"] == 128
    assert facts["folded_layers"] == 3
    assert facts["verified_difference"]["relative"] < 1e-5


def test_a_wrong_fused_file_would_be_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from callbacks import do_conv_fusion

    def spoiled(path: Path) -> dict[str, torch.Tensor]:
        return {key: value + 0.1 for key, value in load_file(path).items()}

    monkeypatch.setattr(do_conv_fusion, "load_file", spoiled)
    fusion = DoConvFusionCallback()
    trainer(tmp_path, fusion).fit(module(), datamodule=data())
    assert fusion.run_facts()["fusion"]["verified_difference"]["absolute"] > 0.01


def test_training_goes_on_as_if_nothing_were_folded(tmp_path: Path) -> None:
    folded, plain = module(), module()
    trainer(tmp_path, DoConvFusionCallback(every_checkpoint=True)).fit(folded, datamodule=data())
    trainer(tmp_path).fit(plain, datamodule=data())
    torch.testing.assert_close(folded.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert sum(isinstance(layer, DOConv2d) for layer in folded.modules()) == 3


class FoldCounter(L.Callback):
    """Counts how often a kernel is folded in each stage."""

    def __init__(self, layer: DOConv2d, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folds = 0
        self.per_validation: list[int] = []
        fold = DOConv2d._fold

        def counted(self_: DOConv2d) -> torch.Tensor:
            self.folds += self_ is layer
            return fold(self_)

        monkeypatch.setattr(DOConv2d, "_fold", counted)

    def on_validation_start(self, *_: Any) -> None:
        self.folds = 0

    def on_validation_end(self, *_: Any) -> None:
        self.per_validation.append(self.folds)


def test_validation_folds_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = module()
    counter = FoldCounter(model.network.conv1, monkeypatch)  # type: ignore[arg-type]
    small = DigitsDataModule(batch_size=16, holdout=100, seed=0)
    trainer(tmp_path, DoConvFusionCallback(), counter).fit(model, datamodule=small)
    assert counter.per_validation == [1, 1]


def test_validation_sees_the_weights_of_its_own_epoch(tmp_path: Path) -> None:
    class Compare(L.Callback):
        largest = 0.0

        def on_validation_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any
        ) -> None:
            expected = fuse(pl_module.network).network(batch[0])
            self.largest = max(self.largest, (outputs["logits"] - expected).abs().max().item())

    compare = Compare()
    trainer(tmp_path, DoConvFusionCallback(), compare).fit(module(), datamodule=data())
    assert compare.largest < 1e-5


def test_the_test_runs_the_fused_network_beside_the_trained_one(tmp_path: Path) -> None:
    model, fusion = module(), DoConvFusionCallback()
    tester = trainer(tmp_path, fusion)
    tester.fit(model, datamodule=data())
    tester.test(model, datamodule=data(), verbose=False)
    metrics = tester.callback_metrics
    assert metrics["test/acc1_fused"] == metrics["test/acc1"]
    assert fusion.run_facts()["fusion"]["test_difference"]["relative"] < 1e-5


@pytest.mark.parametrize("fusion_first", [True, False])
def test_with_weight_averaging_the_averaged_weights_are_folded(
    tmp_path: Path, fusion_first: bool
) -> None:
    model = module()
    fusion = DoConvFusionCallback(every_checkpoint=True)
    ema = EMAWeightAveraging(decay=0.5)
    saved = ModelCheckpoint(tmp_path / "checkpoints", filename="epoch{epoch}", save_top_k=-1)
    callbacks = [fusion, ema] if fusion_first else [ema, fusion]
    trainer(tmp_path, *callbacks, saved).fit(model, datamodule=data())
    # Weight averaging leaves its weights in the module at the end of fit.
    final = fuse(model.network).network.state_dict()
    written = load_file(tmp_path / "checkpoints/fused.safetensors")
    torch.testing.assert_close(written, dict(final), rtol=0, atol=0)
    (beside,) = (tmp_path / "checkpoints").glob("fused-epoch=0*.safetensors")
    (checkpoint,) = (tmp_path / "checkpoints").glob("*epoch=0.ckpt")
    averaged = module()
    averaged.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    expected = fuse(averaged.network).network.state_dict()
    torch.testing.assert_close(load_file(beside), dict(expected), rtol=0, atol=0)


def test_a_resumed_run_writes_the_same_fused_file(tmp_path: Path) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    trainer(whole, DoConvFusionCallback(), max_epochs=3).fit(module(), datamodule=data())
    first = trainer(resumed, DoConvFusionCallback(), max_epochs=1)
    first.fit(module(), datamodule=data())
    first.save_checkpoint(resumed / "last.ckpt")
    trainer(resumed, DoConvFusionCallback(), max_epochs=3).fit(
        module(), datamodule=data(), ckpt_path=resumed / "last.ckpt"
    )
    files = [load_file(folder / "checkpoints/fused.safetensors") for folder in (whole, resumed)]
    torch.testing.assert_close(*files, rtol=0, atol=0)


def test_resuming_a_finished_run_folds_the_averaged_weights_again(tmp_path: Path) -> None:
    def fit(**options: Any) -> dict[str, torch.Tensor]:
        callbacks = [DoConvFusionCallback(), EMAWeightAveraging(decay=0.5)]
        saved = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False)
        trainer(tmp_path, *callbacks, saved).fit(module(), datamodule=data(), **options)
        return load_file(tmp_path / "checkpoints/fused.safetensors")

    torch.testing.assert_close(fit(), fit(ckpt_path=tmp_path / "last.ckpt"), rtol=0, atol=0)


def test_a_network_without_do_conv_is_an_error(tmp_path: Path) -> None:
    plain = ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    with pytest.raises(ValueError, match="found no DO-Conv in the network; take the callback out"):
        trainer(tmp_path, DoConvFusionCallback()).fit(plain, datamodule=data())


def test_at_least_one_batch_is_verified() -> None:
    with pytest.raises(ValueError, match="verify_batches is 0; it must be at least 1"):
        DoConvFusionCallback(verify_batches=0)


# Two processes start in about ten seconds, most of it imports.
@pytest.mark.slow
def test_on_two_devices_one_file_is_written_and_both_count(tmp_path: Path) -> None:
    facts: dict[str, Any] = {}

    class Record:
        def update(self, **new: Any) -> None:
            facts.update(new)

    model = module()
    fitter = trainer(
        tmp_path,
        DoConvFusionCallback(),
        RunRecordCallback(Record()),
        strategy="ddp_fork",
        devices=2,
        use_distributed_sampler=False,
    )
    fitter.fit(model, datamodule=data())
    plain = create_network("mnist_demo_pytorch")
    plain.load_state_dict(load_file(tmp_path / "checkpoints/fused.safetensors"), strict=True)


def test_the_folded_network_is_tested_in_the_precision_and_memory_format_of_the_trained_one(
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    model = DOConvClassifier("resnet18_cifar", num_classes=10, channels_last=True)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.ones_(norm.weight)  # or the last norms would switch all blocks off
    images = TensorDataset(torch.randn(8, 3, 32, 32), *(2 * [torch.arange(8)]))
    fusion = DoConvFusionCallback()
    testing = trainer(tmp_path, fusion, precision="bf16-mixed")
    testing.test(model, DataLoader(images, 8), verbose=False)
    assert fusion.run_facts()["fusion"]["test_difference"]["relative"] == 0
