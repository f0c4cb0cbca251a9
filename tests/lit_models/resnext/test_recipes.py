"""The recipes' learning rates and normalisation, against the rules of the authors' code."""

from collections.abc import Callable
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset

from experiments.cli import build
from lit_models import ImageClassifier
from lit_models.optimization import OptimizerSettings, ScheduleSettings

CONFIGS = Path(__file__).parents[3] / "configs"
ROWS = CONFIGS / "resnext"


def cifar_rule(epoch: int) -> float:
    # Torch counts epochs from 1.
    done = (epoch + 1) / 300
    return 0.1 ** (2 if done > 0.74 else 1 if done > 0.49 else 0)


def wide_resnet_rule(epoch: int) -> float:
    return float(0.2 ** sum(epoch + 1 >= first for first in (60, 120, 160)))


@pytest.mark.parametrize(
    ("row", "epochs", "rule"),
    [
        ("imagenet/resnext_50_32x4d", 100, lambda epoch: 0.1 ** (epoch // 30)),
        ("cifar10/resnext_29_8x64d", 300, cifar_rule),
        ("cifar100/wide_resnet_28_10", 200, wide_resnet_rule),
        ("mobilenet_v1/mobilenet_100_224", 100, lambda epoch: 0.94 ** (epoch // 2)),
    ],
)
def test_the_rate_falls_in_the_epochs_of_the_code(
    row: str, epochs: int, rule: Callable[[int], float]
) -> None:
    model, _ = build([ROWS / f"{row}.yaml"])
    assert isinstance(model, ImageClassifier)
    base, steps = model.optimizer_settings.lr, 7
    for epoch in range(epochs):
        for step in (0, steps - 1):
            rate = model.schedule_settings.rate(epoch * steps + step, base, steps, epochs * steps)
            assert rate == pytest.approx(base * rule(epoch))


@pytest.mark.parametrize(
    ("data", "mean", "std"),
    [
        ("cifar10", (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
        ("cifar100", (129.3, 124.1, 112.4), (68.2, 65.4, 70.4)),
    ],
)
def test_images_are_normalised_by_the_numbers_of_the_code(
    data: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    recipe = yaml.safe_load((CONFIGS / "recipes" / f"resnext_{data}_images.yaml").read_text())
    given = recipe["data"]["init_args"]
    assert [255 * value for value in given["mean"]] == pytest.approx(mean, abs=1e-3)
    assert [255 * value for value in given["std"]] == pytest.approx(std, abs=1e-3)


def test_imagenet_5k_trains_on_as_many_batches_as_imagenet_1k() -> None:
    recipe = yaml.safe_load((CONFIGS / "recipes" / "resnext_imagenet.yaml").read_text())
    for row in (ROWS / "imagenet5k").glob("*.yaml"):
        steps = yaml.safe_load(row.read_text())["trainer"]["max_steps"]
        assert steps == recipe["trainer"]["max_epochs"] * -(-1_281_167 // 256)


def test_where_steps_end_training_the_rate_falls_in_parts_of_them(tmp_path: Path) -> None:
    """What the rows of ImageNet-5K rest on: max_epochs divides the steps into epochs."""
    rates = []

    class Rates(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    model = ImageClassifier(
        "tiny_depthwise_separable",
        num_classes=10,
        in_chans=1,
        optimizer=OptimizerSettings(lr=1.0),
        schedule=ScheduleSettings(name="step", milestones=[3, 6, 9]),
    )
    images = TensorDataset(
        torch.randn(100, 1, 28, 28), torch.zeros(100, dtype=torch.long), torch.arange(100)
    )
    trainer = L.Trainer(
        max_epochs=10,
        max_steps=20,
        accelerator="cpu",
        callbacks=[Rates()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, DataLoader(images, batch_size=2))
    expected = [1.0] * 6 + [0.1] * 6 + [0.01] * 6 + [0.001] * 2
    assert rates == pytest.approx(expected)
