from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from callbacks.batch_arithmetic import BatchArithmetic, accumulation, describe
from datamodules import DigitsDataModule
from lit_models import ImageClassifier
from lit_models.optimization import OptimizerSettings, ScheduleSettings

SIZES = st.integers(1, 48)


@settings(deadline=None)
@given(st.integers(1, 512), SIZES, SIZES)
def test_what_is_kept_is_the_published_batch_and_what_is_advised_keeps_it(
    published: int, devices: int, batch_size: int
) -> None:
    try:
        accumulated = accumulation(published, devices, batch_size)
    except ValueError as error:
        assert published % (devices * batch_size)
        _, advised, size = str(error).partition("--data.init_args.batch_size ")
        if advised:
            lower = int(size.split(",")[0])
            assert 1 <= lower <= batch_size
            assert accumulation(published, devices, lower) >= 1
        else:
            assert published % devices
    else:
        assert devices * batch_size * accumulated == published


@pytest.mark.parametrize(
    ("published", "devices", "batch_size", "says"),
    [
        (1024, 8, 256, "8 devices x 256 images = 2048 does not divide the published batch of 1024"),
        (1024, 8, 256, "give --data.init_args.batch_size 128"),
        (1000, 1, 128, "give --data.init_args.batch_size 125"),
        (32, 3, 8, "no batch size on 3 devices makes the published 32"),
    ],
)
def test_a_batch_that_cannot_be_kept_is_answered_with_one_that_can(
    published: int, devices: int, batch_size: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        accumulation(published, devices, batch_size)


def fit(folder: Path, callback: BatchArithmetic, **options: Any) -> ImageClassifier:
    torch.manual_seed(0)
    model = ImageClassifier(
        "mnist_demo_pytorch",
        num_classes=10,
        in_chans=1,
        optimizer=OptimizerSettings(lr=0.1),
        schedule=ScheduleSettings("cosine", warmup_epochs=1, warmup_lr=0.01, final_lr=0.001),
    )
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        max_epochs=1,
        limit_train_batches=9,
        num_sanity_val_steps=0,
        **options,
    )
    trainer.fit(model, datamodule=DigitsDataModule(batch_size=8, holdout=50, seed=0))
    return model


def test_keeping_the_batch_is_accumulating_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = BatchArithmetic(32, keep=True)
    model = fit(tmp_path, kept)
    by_hand = fit(tmp_path, BatchArithmetic(), accumulate_grad_batches=4)
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict(), rtol=0, atol=0)
    assert kept.run_facts()["batch"] == {
        "devices": 1,
        "images": 8,
        "accumulated": 4,
        "global": 32,
        "published": 32,
        "lr_factor": 1.0,
    }
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "batch: 1 device x 8 images x 4 accumulated = 32, as published; "
        "the last step of an epoch has 1 of 4 batches"
    )
    assert second.startswith("batch: 1 device x 8 images x 4 accumulated = 32; the last")


def test_the_whole_schedule_is_scaled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = BatchArithmetic(32, scale_lr="linear")
    model = fit(tmp_path, callback)
    assert callback.run_facts()["batch"]["lr_factor"] == 0.25
    assert model.optimizer_settings.lr == 0.025
    assert model.schedule_settings.warmup_lr == 0.0025
    assert model.schedule_settings.final_lr == 0.00025
    printed = capsys.readouterr().out
    assert printed == (
        "batch: 1 device x 8 images = 8; published 32: the learning rate is multiplied by 0.25\n"
    )


def test_a_batch_that_differs_is_said_and_nothing_is_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fit(tmp_path, BatchArithmetic(32))
    assert model.optimizer_settings.lr == 0.1
    assert "8; published 32: the learning rate is for that" in capsys.readouterr().out


def test_a_recipe_that_states_no_batch_is_only_described() -> None:
    facts = {"devices": 2, "images": 1, "accumulated": 1, "global": 2, "published": None}
    assert describe({**facts, "lr_factor": 1.0}, 7) == "batch: 2 devices x 1 image = 2"


@pytest.mark.parametrize(("done", "devices", "said"), [(3, 2, True), (0, 2, False), (3, 1, False)])
def test_an_epoch_resumed_on_other_devices_is_not_the_same_and_says_so(
    done: int, devices: int, said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = SimpleNamespace(current=SimpleNamespace(completed=done))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    trainer = SimpleNamespace(
        world_size=1,
        accumulate_grad_batches=1,
        num_training_batches=9,
        datamodule=SimpleNamespace(batch_size=8),
        fit_loop=loop,
    )
    callback = BatchArithmetic()
    callback.setup(trainer, None, "fit")  # type: ignore[arg-type]
    callback.load_state_dict({"devices": devices, "images": 8, "global": 8 * devices})
    callback.on_train_start(trainer, None)  # type: ignore[arg-type]
    line, out = "this epoch was begun with 2 devices x 8 images", capsys.readouterr().out
    assert (line in out) == said
    assert ("this run was begun with steps of 16 images" in out) == (devices == 2)
