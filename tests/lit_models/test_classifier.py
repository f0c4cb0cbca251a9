from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lit_models import DOConvClassifier, ImageClassifier, KWClassifier
from lit_models.finite_loss import NonFiniteLossError
from lit_models.optimization import OptimizerSettings


def loader(images: int = 23, batch_size: int = 5, soft: bool = False) -> DataLoader:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(images, 1, 28, 28, generator=generator)
    targets = torch.randint(10, (images,), generator=generator)
    if soft:
        targets = nn.functional.one_hot(targets, 10).float() * 0.9 + 0.01
    return DataLoader(TensorDataset(inputs, targets, torch.arange(images)), batch_size)


def trainer(folder: Path, **options: object) -> L.Trainer:
    options = {"max_epochs": 1, **options}
    return L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,  # type: ignore[arg-type]
    )


def classifier(**options: object) -> ImageClassifier:
    return ImageClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1, **options)  # type: ignore[arg-type]


def test_accuracy_and_loss_are_those_of_all_samples_at_once(tmp_path: Path) -> None:
    model = classifier()
    tester = trainer(tmp_path)
    tester.test(model, loader(), verbose=False)
    images, targets, _ = next(iter(loader(batch_size=23)))
    logits = model.eval()(images)
    best = logits.topk(5).indices
    expected = {
        "test/acc1": (best[:, 0] == targets).float().mean(),
        "test/acc5": (best == targets[:, None]).any(dim=1).float().mean(),
        "test/loss": nn.functional.cross_entropy(logits, targets),
    }
    for name, value in expected.items():
        assert tester.callback_metrics[name] == pytest.approx(value.item(), rel=1e-5)


class SevensAndEights(L.LightningDataModule):
    """Images of two of ten classes; says so."""

    test_classes = torch.tensor([7, 8])

    def test_dataloader(self) -> DataLoader:
        images, _, rows = loader().dataset.tensors
        return DataLoader(TensorDataset(images, rows % 2 + 7, rows), 5)


def test_where_the_test_has_fewer_classes_accuracy_among_them_is_counted_too(
    tmp_path: Path,
) -> None:
    model = classifier()
    (found,) = trainer(tmp_path).test(model, SevensAndEights(), verbose=False)
    images, targets, _ = (
        torch.cat(parts) for parts in zip(*SevensAndEights().test_dataloader(), strict=True)
    )
    with torch.no_grad():
        logits = model.eval()(images)
    among = logits[:, 7:9].argmax(1) + 7 == targets
    assert found["test/acc1_restricted"] == pytest.approx(among.float().mean().item())
    assert 0 < found["test/acc1_restricted"] < 1


def test_soft_targets_and_label_smoothing_train(tmp_path: Path) -> None:
    model = classifier(label_smoothing=0.1)
    before = [parameter.clone() for parameter in model.parameters()]
    trainer(tmp_path).fit(model, loader(soft=True))
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize(("every", "logged"), [(0, False), (2, True), (9, False)])
def test_losses_of_steps_are_logged_every_few_steps(
    tmp_path: Path, every: int, logged: bool
) -> None:
    training = trainer(tmp_path, log_every_n_steps=every)
    training.fit(classifier(), loader())  # five steps
    assert ("train/loss_step" in training.callback_metrics) == logged


class Rates(L.Callback):
    """The learning rate of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_an_epochs_warmup_is_an_epochs_where_steps_are_given_instead_of_epochs(
    tmp_path: Path,
) -> None:
    schedule = {"name": "cosine", "warmup_epochs": 1}
    model, rates = classifier(schedule=schedule, optimizer={"lr": 0.1}), Rates()
    training = trainer(tmp_path, callbacks=[rates], max_epochs=-1, max_steps=15)
    training.fit(model, loader())  # five steps an epoch
    assert len(rates.seen) == 15
    assert rates.seen[4] == max(rates.seen) > rates.seen[6] > rates.seen[14]


def test_an_evaluation_that_misses_samples_is_an_error(tmp_path: Path) -> None:
    class Data(L.LightningDataModule):
        num_test = 24

        def test_dataloader(self) -> DataLoader:
            return loader(images=23)

    with pytest.raises(RuntimeError, match="test counted 23 samples where the data set has 24"):
        trainer(tmp_path).test(classifier(), datamodule=Data(), verbose=False)
    trainer(tmp_path, limit_test_batches=2).test(classifier(), datamodule=Data(), verbose=False)


@pytest.mark.parametrize("cls", [ImageClassifier, DOConvClassifier])
def test_a_checkpoint_holds_plain_values_and_rebuilds_the_module(
    tmp_path: Path, cls: type[ImageClassifier]
) -> None:
    settings = OptimizerSettings(name="adamw", lr=0.01)
    model = cls("mnist_demo_pytorch", num_classes=10, in_chans=1, optimizer=settings)
    fitter = trainer(tmp_path)
    fitter.fit(model, loader())
    path = tmp_path / "model.ckpt"
    fitter.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["hyper_parameters"]["optimizer"]["lr"] == 0.01
    loaded = cls.load_from_checkpoint(path, weights_only=True)
    assert loaded.optimizer_settings == settings
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(loaded.eval()(images), model.eval()(images))


def test_what_is_deployed_is_a_copy(tmp_path: Path) -> None:
    model = classifier()
    deployed = model.deployed()
    assert not deployed.training
    assert model.network.training
    nn.init.zeros_(next(deployed.parameters()))
    assert next(model.network.parameters()).any()


def test_do_conv_is_deployed_as_the_plain_network() -> None:
    model = DOConvClassifier("mnist_demo_pytorch", num_classes=10, in_chans=1)
    plain = classifier().network
    deployed = model.deployed()
    assert [type(module) for module in deployed.modules()] == [
        type(module) for module in plain.modules()
    ]
    assert deployed.state_dict().keys() == plain.state_dict().keys()


def test_weights_of_another_network_are_named() -> None:
    other = ImageClassifier("mnist_demo_gluoncv", num_classes=10, in_chans=1)
    with pytest.raises(ValueError, match=r"they lack .*; their 'network.conv1.weight' has"):
        classifier().load_state_dict(other.state_dict())


def test_too_few_classes_for_top_5_are_fine(tmp_path: Path) -> None:
    model = ImageClassifier("mnist_demo_pytorch", num_classes=3, in_chans=1)
    batch = (torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 0]), torch.arange(4))
    model.test_metrics.update(model(batch[0]), batch[1])
    assert model.test_metrics.compute()["acc5"] == 1.0


@pytest.mark.parametrize("cls", [ImageClassifier, DOConvClassifier, KWClassifier])
def test_channels_last_computes_the_same_and_changes_no_checkpoint(
    tmp_path: Path, cls: type[ImageClassifier]
) -> None:
    states = []
    for channels_last in (False, True):
        torch.manual_seed(0)
        model = cls(
            "mnist_demo_tensorflow", num_classes=10, in_chans=1, channels_last=channels_last
        )
        trainer(tmp_path, limit_train_batches=2).fit(model, loader())
        states.append(model.state_dict())
    torch.testing.assert_close(states[0], states[1])
    plain = cls("mnist_demo_tensorflow", num_classes=10, in_chans=1)
    plain.load_state_dict(states[1])
    images = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(plain.eval()(images), model.eval()(images))


def test_channels_last_reaches_the_convolutions() -> None:
    model = ImageClassifier("resnet18_cifar", num_classes=10, channels_last=True)
    seen = []
    conv = next(m for m in model.network.modules() if isinstance(m, nn.Conv2d))
    conv.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], conv.weight)))
    model(torch.randn(2, 3, 32, 32))
    for tensor in seen[0]:
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()


@pytest.mark.parametrize("cls", [ImageClassifier, DOConvClassifier, KWClassifier])
def test_compiling_computes_the_same_and_changes_no_checkpoint(
    tmp_path: Path, cls: type[ImageClassifier], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    compiling = torch.compile
    # What generates code takes most of the time and is torch's own affair.
    monkeypatch.setattr(torch, "compile", lambda model: compiling(model, backend=count))
    states = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = cls("mnist_demo_tensorflow", num_classes=10, in_chans=1, compile=compiled)
        trainer(tmp_path, limit_train_batches=2).fit(model, loader())
        assert bool(graphs) == compiled
        states.append(model.state_dict())
    torch.testing.assert_close(states[0], states[1])
    deployed, images = model.deployed(), torch.randn(3, 1, 28, 28)
    count_before = len(graphs)
    torch.testing.assert_close(deployed(images), model.eval()(images), rtol=1e-4, atol=1e-5)
    del graphs[:count_before]
    deployed(images)
    assert len(graphs) <= 1  # the model's own in eval mode, none of the copy


def test_the_loss_of_an_epoch_goes_on_where_a_checkpoint_was_written(tmp_path: Path) -> None:
    model = classifier()
    fitter = trainer(tmp_path, limit_train_batches=2)
    fitter.fit(model, loader())
    model.train_loss.update(3.0, 2)
    checkpoint: dict[str, Any] = {}
    model.on_save_checkpoint(checkpoint)
    model.train_loss.update(100.0, 50)
    resumed = classifier()
    resumed.on_load_checkpoint(checkpoint)
    resumed.train_loss.update(6.0, 1)
    assert resumed.train_loss.compute() == 4.0


def test_weights_that_another_devices_loss_has_spoiled_are_not_saved() -> None:
    model = classifier()
    model.train_loss.update(float("nan"), 1)
    with pytest.raises(NonFiniteLossError, match="another device"):
        model.on_save_checkpoint({})
